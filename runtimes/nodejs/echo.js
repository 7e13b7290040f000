// The function of the rehearsal of a functions framework.
exports.echo = (request, response) => response.send(request.body);
