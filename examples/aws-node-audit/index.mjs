// Writes down who changed what: each change of a row of orders becomes a row of audit, in
// the order in which the changes were committed.
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 1 });

export async function handler(event) {
  for (const { eventID, eventTime, data } of event.Records) {
    // The id is the same when a change is told again, and so there is one row of it.
    await db.query(
      "INSERT INTO audit (id, at, operation, before, after) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
      [eventID, eventTime, data.operation, data.old, data.new],
    );
    console.log(`${data.operation} of order ${(data.new ?? data.old).id}`);
  }
}
