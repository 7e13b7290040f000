import boto3

# With keys, which functions on AWS find in their environment: without them it goes and asks the network.
client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": event["body"]}
