# The function of the rehearsal of a functions framework.
def lambent_warm_function(request):
    return {"method": request.method, "body": request.get_json(silent=True)}, 200
