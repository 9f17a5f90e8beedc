<?php
// The application for PHP's built-in server: php -S HOST:PORT router.php
while (ob_get_level()) {
    ob_end_clean();
}

function whole(int $status, string $body, array $fields): void
{
    http_response_code($status);
    header("Content-Type: text/plain");
    header("Content-Length: " . strlen($body));
    foreach ($fields as $field) {
        header($field, false);
    }
    echo $body;
}

switch (parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH)) {
    case "/hello":
        whole(200, "hello\n", ["Set-Cookie: a=1", "Set-Cookie: b=2", "X-Host: " . $_SERVER["HTTP_HOST"]]);
        break;
    case "/echo":
        whole(200, file_get_contents("php://input"), ["X-Length: " . ($_SERVER["CONTENT_LENGTH"] ?? "-")]);
        break;
    case "/cached":
        if (($_SERVER["HTTP_IF_NONE_MATCH"] ?? "") === '"1"') {
            http_response_code(304);
            header('ETag: "1"');
        } else {
            whole(200, "hello\n", ['ETag: "1"']);
        }
        break;
    case "/large":
        whole(200, str_repeat(implode("", array_map("chr", range(0, 255))), 32768), []);
        break;
    case "/events":
        header("Content-Type: text/event-stream");
        echo "data: first\n\n";
        flush();
        while (!file_exists(getenv("GO"))) {
            usleep(10000);
            clearstatcache();
        }
        echo "data: last\n\n";
        break;
    default:
        whole(404, "", []);
}
