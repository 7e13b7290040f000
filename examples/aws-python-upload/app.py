"""Hears of uploads: S3's notification, as on AWS."""

from urllib.parse import unquote_plus


def handler(event, context):
    for record in event["Records"]:
        bucket, o = record["s3"]["bucket"]["name"], record["s3"]["object"]
        print(f"{record['eventName']}: {unquote_plus(o['key'])} in {bucket}, {o['size']} bytes")
