"""How Sallyport's gateway is configured and started for a run: the only place that knows."""

import os
import secrets

from .processes import free_port, start, wait_for_port

CONFIGURATION = """\
listen: "127.0.0.1:{port}"
apiKeys:
  - {{name: bench, keyFile: "{key_file}"}}
loops: {loops}
limits: {{maximumSessions: 10000}}
clusters:
  - name: bench
    hosts: ["127.0.0.1:{backend_port}"]
    token: {{id: "root@pam!bench", secretFile: "{secret_file}"}}
    tls: {tls}
"""


def launch(program, directory, name, loops, backend):
    """Starts the gateway; returns the process, its port and the generator's arguments."""
    port = free_port()
    key_file = _secret(directory, f"{name}.key", secrets.token_urlsafe(32))
    secret_file = _secret(directory, f"{name}.secret", "00000000-0000-0000-0000-000000000000")
    tls = "{plaintext: true}"
    if backend.fingerprint:
        tls = f'{{fingerprint: "{backend.fingerprint}"}}'
    configuration = os.path.join(directory, f"{name}.yaml")
    with open(configuration, "w") as file:
        file.write(CONFIGURATION.format(
            port=port, key_file=key_file, loops=loops, backend_port=backend.http,
            secret_file=secret_file, tls=tls))
    process = start(
        [program, "serve", "--config", configuration], os.path.join(directory, f"{name}.log"))
    wait_for_port(port, process, name)
    return process, port, ["--key-file", key_file]


def _secret(directory, name, text):
    path = os.path.join(directory, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    return path
