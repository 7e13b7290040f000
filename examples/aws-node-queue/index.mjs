// Takes orders off a queue, several at a time. Those that it cannot take it names: they
// come again, alone, and the others do not.
export async function handler(event) {
  const batchItemFailures = [];
  for (const record of event.Records) {
    try {
      const order = JSON.parse(record.body);
      console.log(`order of ${order.count} ${order.item}`);
    } catch {
      console.log(`no order: ${record.body}`);
      batchItemFailures.push({ itemIdentifier: record.messageId });
    }
  }
  return { batchItemFailures };
}
