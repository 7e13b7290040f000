"""Makes a thumbnail of each photo that is uploaded."""

import io
from urllib.parse import unquote_plus

import boto3
from PIL import Image

s3 = boto3.client("s3")  # finds its way by the environment, as on AWS


def handler(event, context):
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        image = Image.open(s3.get_object(Bucket=bucket, Key=key)["Body"])
        image.thumbnail((128, 128))
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG")
        s3.put_object(Bucket=bucket, Key="thumbnails/" + key, Body=out.getvalue(), ContentType="image/jpeg")
        print(f"{key}: {image.width} x {image.height}")
