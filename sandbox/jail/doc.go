// Package jail divides a sandbox driver between two processes. The jail is the
// small one that has root's rights: it makes and ends sandboxes, with another
// driver, and hears and says nothing but this package's protocol over one
// socket pair. Everything that parses foreign bytes (HTTP, archives, answers of
// functions, their name queries) runs in the other process, without rights, for
// which [Driver] is the driver: data goes over the socket, and descriptors (the
// agent's connection, the output, listeners, meters, the sockets at which names are
// asked for), so that calls of functions never pass the jail.
//
// The jail trusts nothing that it is told: a message that is not of the protocol
// ends the connection, a value outside its bounds is refused. Which paths may be
// shown to a sandbox, and which addresses opened for a name, is its driver's to
// check. What both have open has flags that either can set: the jail never waits for
// it. When either side goes, the other sees the end of the connection: the jail
// then destroys every sandbox.
//
// A message is one datagram of JSON, at most [maxMessage] bytes. The two sides
// are of one program; the version is compared nonetheless.
package jail
