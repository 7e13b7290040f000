import com.google.cloud.functions.HttpFunction;
import com.google.cloud.functions.HttpRequest;
import com.google.cloud.functions.HttpResponse;
import java.io.IOException;

/** The echo as a function of Google's. */
public class Echo implements HttpFunction {
  @Override
  public void service(HttpRequest request, HttpResponse response) throws IOException {
    byte[] body = request.getInputStream().readAllBytes();
    response.setContentType("text/plain");
    response.appendHeader("Content-Length", String.valueOf(body.length));
    response.getOutputStream().write(body);
  }
}
