import platform

import functions_framework


@functions_framework.http
def hello(request):
    body = request.get_json(silent=True) or {}
    name = request.args.get("name") or body.get("name") or "world"
    print(f"saying hello to {name} in request {request.headers.get('Function-Execution-Id')}")
    return {"message": f"Hello, {name}!", "runtime": f"python {platform.python_version()}"}
