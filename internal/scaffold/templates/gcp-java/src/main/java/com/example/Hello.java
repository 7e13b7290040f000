package com.example;

import com.google.cloud.functions.HttpFunction;
import com.google.cloud.functions.HttpRequest;
import com.google.cloud.functions.HttpResponse;
import java.io.IOException;
import java.util.logging.Logger;

/** Says hello. */
public class Hello implements HttpFunction {
  private static final Logger logger = Logger.getLogger(Hello.class.getName());

  @Override
  public void service(HttpRequest request, HttpResponse response) throws IOException {
    String name = request.getFirstQueryParameter("name").orElse("world");
    logger.info("saying hello to " + name);
    response.setContentType("application/json");
    response.getWriter().write(
        "{\"message\":\"Hello, " + name + "!\",\"runtime\":\"java " + Runtime.version().feature() + "\"}");
  }
}
