// The application for Tomcat, on which Spring Boot and others run: java -cp '/usr/share/java/*' OnTomcat.java PORT FOLDER.

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.websocket.Endpoint;
import jakarta.websocket.EndpointConfig;
import jakarta.websocket.MessageHandler;
import jakarta.websocket.Session;
import jakarta.websocket.server.ServerContainer;
import jakarta.websocket.server.ServerEndpointConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.websocket.server.WsSci;

public class OnTomcat extends HttpServlet {
    static final byte[] HELLO = "hello\n".getBytes();
    static final String TAG = "\"1\"";
    static final int WHOLE_MESSAGE = 8 << 20; // bytes: above the largest that a test sends

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        response.setContentType("text/plain");
        switch (request.getRequestURI()) {
            case "/hello" -> {
                response.addHeader("Set-Cookie", "a=1");
                response.addHeader("Set-Cookie", "b=2");
                response.setHeader("X-Host", request.getHeader("Host"));
                whole(response, HELLO);
            }
            case "/echo" -> {
                byte[] body = request.getInputStream().readAllBytes();
                response.setHeader("X-Length", Objects.requireNonNullElse(request.getHeader("Content-Length"), "-"));
                whole(response, body);
            }
            case "/cached" -> {
                response.setHeader("ETag", TAG);
                if (TAG.equals(request.getHeader("If-None-Match"))) {
                    response.setStatus(304);
                } else {
                    whole(response, HELLO);
                }
            }
            case "/large" -> {
                byte[] large = new byte[256 * 32768];
                for (int i = 0; i < large.length; i++) {
                    large[i] = (byte) i;
                }
                whole(response, large);
            }
            case "/events" -> {
                response.setContentType("text/event-stream");
                response.getOutputStream().print("data: first\n\n");
                response.flushBuffer();
                while (!Files.exists(Path.of(System.getenv("GO")))) {
                    pause();
                }
                response.getOutputStream().print("data: last\n\n");
            }
            default -> {
                response.setStatus(404);
                whole(response, new byte[0]);
            }
        }
    }

    private static void whole(HttpServletResponse response, byte[] body) throws IOException {
        response.setContentLength(body.length);
        response.getOutputStream().write(body);
    }

    private static void pause() {
        try {
            Thread.sleep(10);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Says again what it hears. */
    public static class Again extends Endpoint {
        @Override
        public void onOpen(Session session, EndpointConfig config) {
            session.setMaxTextMessageBufferSize(WHOLE_MESSAGE);
            session.setMaxBinaryMessageBufferSize(WHOLE_MESSAGE);
            session.addMessageHandler(String.class, (MessageHandler.Whole<String>) text -> {
                try {
                    session.getBasicRemote().sendText(text);
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            });
            session.addMessageHandler(ByteBuffer.class, (MessageHandler.Whole<ByteBuffer>) bytes -> {
                try {
                    session.getBasicRemote().sendBinary(bytes);
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            });
        }
    }

    public static void main(String[] arguments) throws Exception {
        var server = new Tomcat();
        server.setBaseDir(arguments[1]);
        server.setHostname("127.0.0.1");
        server.setPort(Integer.parseInt(arguments[0]));
        server.getConnector().setProperty("address", "127.0.0.1");
        var context = server.addContext("", null);
        Tomcat.addServlet(context, "application", new OnTomcat());
        context.addServletMappingDecoded("/", "application");
        context.addServletContainerInitializer(new WsSci(), null);
        context.addServletContainerInitializer((classes, within) -> {
            var container = (ServerContainer) within.getAttribute(ServerContainer.class.getName());
            try {
                container.addEndpoint(ServerEndpointConfig.Builder.create(Again.class, "/ws").build());
            } catch (jakarta.websocket.DeploymentException e) {
                throw new IllegalStateException(e);
            }
        }, null);
        server.start();
        server.getServer().await();
    }
}
