// The function of the rehearsal of a functions framework.
exports.warm = (request, response) => response.send(request.body);
