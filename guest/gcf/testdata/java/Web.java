import com.google.cloud.functions.HttpFunction;
import com.google.cloud.functions.HttpRequest;
import com.google.cloud.functions.HttpResponse;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.stream.Collectors;

/** A function of the guest's tests, and a web server of no framework. */
public class Web implements HttpFunction {
  private static final long heap = Runtime.getRuntime().maxMemory() / 1048576;

  @Override
  public void service(HttpRequest request, HttpResponse response) throws Exception {
    switch (request.getPath()) {
      case "/echo":
        response.appendHeader("X-Method", request.getMethod());
        request.getInputStream().transferTo(response.getOutputStream());
        return;
      case "/sleep":
        Thread.sleep(Integer.parseInt(request.getFirstQueryParameter("ms").get()));
        return;
      case "/env":
        response.getWriter().write(System.getenv().entrySet().stream()
            .map(e -> '"' + e.getKey() + "\":\"" + e.getValue() + '"').collect(Collectors.joining(",", "{", "}")));
        return;
      default:
        response.getWriter().write("" + heap);
    }
  }

  public static void main(String[] args) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
    server.createContext("/", exchange -> {
      byte[] text = ("" + heap).getBytes();
      exchange.sendResponseHeaders(200, text.length);
      exchange.getResponseBody().write(text);
      exchange.close();
    });
    server.start();
  }
}
