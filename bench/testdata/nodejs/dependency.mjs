import { S3Client } from "@aws-sdk/client-s3";

export const client = new S3Client({});
export const handler = async (event) => ({ statusCode: 200, headers: { "content-type": "text/plain" }, body: event.body });
