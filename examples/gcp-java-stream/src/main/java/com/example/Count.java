package com.example;

import com.google.cloud.functions.HttpFunction;
import com.google.cloud.functions.HttpRequest;
import com.google.cloud.functions.HttpResponse;
import java.io.Writer;
import java.util.concurrent.atomic.AtomicInteger;

/** Streams lines while they are being made. */
public class Count implements HttpFunction {
  private static final AtomicInteger running = new AtomicInteger();

  @Override
  public void service(HttpRequest request, HttpResponse response) throws Exception {
    int count = request.getFirstQueryParameter("count").map(Integer::parseInt).orElse(3);
    int delay = request.getFirstQueryParameter("delay").map(Integer::parseInt).orElse(100); // milliseconds
    response.setContentType("text/plain; charset=utf-8");
    // How many requests this instance has, with this one.
    response.appendHeader("X-Running", Integer.toString(running.incrementAndGet()));
    try {
      Writer out = response.getWriter();
      for (int i = 1; i <= count; i++) {
        out.write(i + " of " + count + "\n");
        out.flush();
        Thread.sleep(delay);
      }
    } finally {
      running.decrementAndGet();
    }
  }
}
