// Says hello, to a direct call and to a request to the function's URL alike.

// What is up here runs once, when an instance starts.
const runtime = `nodejs ${process.versions.node}`;

// The handler runs once for each call. A direct call's event is the JSON that
// the caller sent. A request to the function's URL comes as an event too, with
// its query string in queryStringParameters, its body in body, and so on.
export const handler = async (event, context) => {
  const name = event?.name ?? event?.queryStringParameters?.name ?? "world";

  // Whatever is logged goes to the function's log.
  console.log(`saying hello to ${name} in request ${context.awsRequestId}`);

  // The URL's answer is this value as JSON, too. To set a status or headers,
  // return { statusCode: 200, headers: {...}, body: "..." }.
  return { message: `Hello, ${name}!`, runtime };
};
