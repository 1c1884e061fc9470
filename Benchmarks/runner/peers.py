"""The proxies that Sallyport is compared with: their configurations and how they are started."""

import os
import subprocess

from .processes import free_port, start, wait_for_port

CONSOLE = "/api2/json/nodes/pve1/qemu/100/vncwebsocket?port=5900&vncticket=bench"

HAPROXY = """\
global
    nbthread {threads}
    maxconn 6000
defaults
    mode http
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend viewers
    bind 127.0.0.1:{port}
    default_backend node
backend node
    server pve1 127.0.0.1:{backend_port}{tls}
"""

NGINX = """\
daemon off;
{user}
worker_processes {threads};
pid {directory}/{name}.pid;
error_log {directory}/{name}.log crit;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {scheme}://127.0.0.1:{backend_port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            {tls}
            {buffers}
        }}
    }}
}}
"""
NGINX_TLS = "proxy_ssl_verify on; proxy_ssl_name pve1; proxy_ssl_trusted_certificate {certificate};"
NGINX_64K = "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"


def _file(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def launch_haproxy(directory, name, threads, backend):
    port = free_port()
    tls = f" ssl verify required ca-file {backend.certificate}" if backend.certificate else ""
    configuration = _file(directory, f"{name}.cfg", HAPROXY.format(
        threads=threads, port=port, backend_port=backend.http, tls=tls))
    log = os.path.join(directory, f"{name}.log")
    process = start(["haproxy", "-db", "-q", "-f", configuration], log)
    wait_for_port(port, process, name)
    return process, port, ["--path", CONSOLE]


def launch_nginx(directory, name, threads, backend, buffers=""):
    port = free_port()
    configuration = _file(directory, f"{name}.conf", NGINX.format(
        directory=directory, name=name, threads=threads, port=port, backend_port=backend.http,
        user="user root;" if os.getuid() == 0 else "", buffers=buffers,
        scheme="https" if backend.certificate else "http",
        tls=NGINX_TLS.format(certificate=backend.certificate) if backend.certificate else ""))
    process = start(["nginx", "-c", configuration], os.path.join(directory, f"{name}.log"))
    wait_for_port(port, process, name)
    return process, port, ["--path", CONSOLE]


def launch_nginx_64k(directory, name, threads, backend):
    return launch_nginx(directory, name, threads, backend, NGINX_64K)


def launch_websockify(program, directory, name, backend):
    """websockify speaks to a bare TCP (or TLS) port and forks a process for each session."""
    port = free_port()
    command = [program, f"127.0.0.1:{port}", f"127.0.0.1:{backend.raw}"]
    environment = dict(os.environ)
    if backend.certificate:
        command.append("--ssl-target")
        # It has no option for this, and verifies by the machine's authorities.
        environment["SSL_CERT_FILE"] = backend.certificate
    process = start(command, os.path.join(directory, f"{name}.log"), env=environment)
    wait_for_port(port, process, name)
    return process, port, ["--path", "/websockify"]


def version_of(command):
    """The first line of a program's version text, or None where it is not installed."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ((ran.stdout + ran.stderr).strip().splitlines() or ["?"])[0]
