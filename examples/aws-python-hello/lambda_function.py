"""Says hello, to a direct call and to a request to the function's URL alike."""

import platform


def lambda_handler(event, context):
    """Runs once for each call.

    A direct call's event is the JSON that the caller sent. A request to the
    function's URL comes as an event too, with its query string in
    "queryStringParameters", its body in "body", and so on.
    """
    event = event or {}
    query = event.get("queryStringParameters") or {}
    name = event.get("name") or query.get("name") or "world"

    # Whatever is printed goes to the function's log.
    print(f"saying hello to {name} in request {context.aws_request_id}")

    # The URL's answer is this value as JSON, too. To set a status or headers,
    # return {"statusCode": 200, "headers": {...}, "body": "..."}.
    return {
        "message": f"Hello, {name}!",
        "runtime": f"python {platform.python_version()}",
    }
