const functions = require('@google-cloud/functions-framework');

// An upload, as a CloudEvent: its data is the object that was stored.
functions.cloudEvent('stored', (event) => {
  console.log(`${event.type}: ${event.data.bucket}/${event.data.name}`);
});

// A message of a topic, as a CloudEvent. Whatever is thrown has the event fail.
functions.cloudEvent('published', async (event) => {
  const text = Buffer.from(event.data.message.data, 'base64').toString();
  if (text === 'bad') throw new Error('a bad message');
  console.log(`${event.id}: ${text}`);
});

// The same message, to a background function of before CloudEvents.
exports.received = (message, context) => {
  console.log(`${context.eventType} ${context.eventId}: ${Buffer.from(message.data, 'base64')}`);
};

// An event of one's own. One that names nobody is tried again, and is a dead letter then.
functions.cloudEvent('shipped', (event) => {
  if (!event.data.customer) throw new Error('shipped to nobody');
  console.log(`shipped to ${event.data.customer}`);
});
