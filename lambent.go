// Package lambent is the vocabulary of a platform that runs serverless
// functions on people's own machines: code written for AWS Lambda, Google Cloud
// Functions and Azure Functions, unmodified.
//
// The package holds data, the rules that make data valid, errors, and one verb,
// [Invoker]. It does no I/O, starts no goroutine and imports nothing of ours, so
// that every other package may import it.
//
// # The system on one page
//
// A client's request arrives at an edge (api/v1, api/web), which authenticates
// it and turns it into an [Invocation]. The package dispatch finds the target's
// revision, one exact (code, configuration), and an instance of it, or starts
// one. Starting means: a sandbox driver parks a sandbox with the runtime booted,
// the guest (the contract with the code inside, such as Lambda's Runtime API)
// attaches to it, the sandbox is assigned the code and the limits, and the guest
// initialises the code. The answer streams back through a [Reply]. Before its
// last byte leaves, the invocation's [Usage] is in the ledger of the package
// meter, and its log lines are with the package logs.
//
// Deploying goes another way: control verifies, stores and publishes functions
// in store (embedded JetStream), where bundle has put their code as
// content-addressed trees. The synchronous path never touches the store: it
// sees function heads in memory.
//
// Six words describe one box. A runtime is data: which interpreter and agent,
// and which guest. It is booted in a sandbox, an isolated process tree made by
// a driver. Our agent inside speaks the guest's contract. Once a version's code
// is assigned and initialised, the box is an instance, and serves invocations.
package lambent
