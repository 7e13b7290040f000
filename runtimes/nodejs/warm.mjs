// The function of the rehearsal: an ES module, whose loader is slow the first time.
export const handler = async (event, context) => ({ statusCode: 200, body: event.body, id: context.awsRequestId });
