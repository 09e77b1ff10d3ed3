"""As much of curl as the examples use, for machines that have none.

`python curl.py [-i] [-s] [-X METHOD] [-H "NAME: VALUE"].. [-d BODY] URL`, and
`--data-binary @FILE` for `-d`.
"""

import argparse
import http.client
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main(arguments: list[str]) -> None:
    """Send one request and print its answer."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-i", action="store_true", dest="head")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", action="append", default=[], dest="headers")
    parser.add_argument("-d", dest="body")
    parser.add_argument("--data-binary", dest="file", type=lambda name: Path(name.lstrip("@")))
    parser.add_argument("url")
    given = parser.parse_args(arguments)
    url = urlsplit(given.url if "://" in given.url else f"http://{given.url}")
    if given.file is not None:
        given.body = given.file.read_bytes()
    headers = {} if given.body is None else {"content-type": "application/x-www-form-urlencoded"}
    for header in given.headers:
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    method = given.method or ("GET" if given.body is None else "POST")
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=30)
    connection.request(method, target, body=given.body, headers=headers)
    answer = connection.getresponse()
    out = sys.stdout.buffer
    if given.head:
        out.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n".encode())
        for name, value in answer.getheaders():
            out.write(f"{name}: {value}\r\n".encode())
        out.write(b"\r\n")
    out.write(answer.read())


if __name__ == "__main__":
    main(sys.argv[1:])
