#!/usr/bin/env python3
"""Derives SchemaTableText.swift, the table of all operations of the Proxmox VE API.

    python3 generate.py pve-api.json pve-api-versions.tsv > SchemaTableText.swift

Run by hand when the API changes; the build doesn't need it. `SchemaTable.swift` describes the table's format.
"""

import collections
import json
import sys

ERAS = ["7.4", "8.4", "9.0.6", "9.1.0", "9.2"]
# What the 8.4 series got after the list of versions was made.
LATE_IN_8_4 = {("POST", "/access/vncticket")}
TYPES = {
    "string": "s", "integer": "i", "number": "n", "boolean": "b", "array": "a", "object": "o",
    "null": "-", "any": "x", None: "x",
}


def text(value):
    if value is True or value is False:
        return str(int(value))
    result = str(value)
    if "\t" in result or "\n" in result:
        raise ValueError(f"separator inside {result!r}")
    return result


class Table:
    def __init__(self, operations, versions):
        self.operations = operations
        self.versions = versions
        self.uses = collections.Counter()
        self.ids = {}

    # Schemas

    def tokens(self, schema):
        """A schema's tokens in full; nested schemas are dictionaries, to be shared or written out."""
        out = [TYPES[schema.get("type")] + ("?" if schema.get("optional") else "")]
        for key, sign in [
            ("min", "<"), ("max", ">"), ("minLength", "["), ("maxLength", "]"), ("pattern", "~"),
            ("alias", "!"), ("keyAlias", "^"), ("requires", "+"), ("typeProperty", "&"),
        ]:
            if key in schema:
                out.append(sign + text(schema[key]))
        if schema.get("default") is not None:
            out.append("=" + text(schema["default"]))
        if schema.get("defaultKey"):
            out.append("$")
        if schema.get("enum"):
            values = [text(v) for v in schema["enum"]]
            if any("|" in v for v in values):
                raise ValueError("separator inside an enum")
            out.append("|" + "|".join(values))
        if "instanceTypes" in schema:
            out.append("#" + ",".join(schema["instanceTypes"]))
        form = schema.get("format")
        if isinstance(form, str):
            out.append("%" + form)
        elif form:
            out.append("(")
            out += self.parameter_tokens(form)
            out.append(")")
        if "items" in schema:
            out += ["*", schema["items"]]
        for variant in schema.get("oneOf", []):
            out += ["/", variant]
        return out

    def parameter_tokens(self, parameters):
        out = []
        for parameter in parameters:
            out += [text(parameter["name"]), parameter]
        return out

    def full(self, schema):
        """The text without sharing: what makes two schemas the same."""
        parts = [t if isinstance(t, str) else self.full(t) for t in self.tokens(schema)]
        return "\t".join(parts + [";"])

    def count(self, schema):
        self.uses[self.full(schema)] += 1
        for token in self.tokens(schema):
            if not isinstance(token, str):
                self.count(token)

    def written(self, schema):
        """The text with references to what is shared."""
        key = self.full(schema)
        return f"@{self.ids[key]}" if key in self.ids else self.spelled(schema)

    def spelled(self, schema):
        parts = [t if isinstance(t, str) else self.written(t) for t in self.tokens(schema)]
        return "\t".join(parts + [";"])

    def shared(self):
        """Schemas by id, the most used first."""
        found = {}

        def visit(schema):
            key = self.full(schema)
            if self.uses[key] > 1 and len(key) > 4:
                found.setdefault(key, schema)
            for token in self.tokens(schema):
                if not isinstance(token, str):
                    visit(token)

        for operation in self.operations:
            for parameter in operation["params"]:
                self.count(parameter)
        for operation in self.operations:
            for parameter in operation["params"]:
                visit(parameter)
        order = sorted(found, key=lambda key: (-self.uses[key], key))
        self.ids = {key: i for i, key in enumerate(order)}
        return [self.spelled(found[key]) for key in order]

    # The rest of an operation

    def permission(self, permission):
        if permission is None:
            return "root"
        extra = "+" if permission.get("extra") else ""
        if "user" in permission:
            return permission["user"] + extra
        return self.check(permission["check"]) + extra

    def check(self, check):
        kind, rest = check[0], check[1:]
        if kind in ("and", "or"):
            return ("&" if kind == "and" else "|") + "(" + " ".join(map(self.check, rest)) + ")"
        if kind == "perm":
            path, privileges = rest[0], rest[1]
            options = dict(zip(rest[2::2], rest[3::2]))
            required = "?" + options["require_param"] if "require_param" in options else ""
            return path + "=" + ("|" if options.get("any") else ",").join(privileges) + required
        if kind == "perm-modify":
            return "modify=" + rest[0]
        if kind == "userid-param":
            return {"self": "self", "Realm.AllocateUser": "realm"}[rest[0]]
        if kind == "userid-group":
            options = dict(zip(rest[1::2], rest[2::2]))
            groups = "!" + options["groups_param"] if "groups_param" in options else ""
            return "group=" + "|".join(rest[0]) + groups
        raise ValueError(f"unknown check {check}")

    def returns(self, returns):
        if isinstance(returns, str):
            return TYPES[returns]
        if returns["type"] == "array" and "items" in returns:
            return "[" + self.returns(returns["items"]) + "]"
        if returns["type"] == "object" and "props" in returns:
            members = []
            for name, value in returns["props"].items():
                if any(c in name for c in ":,{}[ ") and not name.endswith("[n]?"):
                    raise ValueError(f"separator inside {name}")
                members.append(name + ":" + self.returns(value))
            return "{" + ",".join(members) + "}"
        return TYPES[returns["type"]]

    def flags(self, operation):
        out = ""
        for key, value, flag in [
            ("protected", True, "p"), ("proxyto", "node", "n"), ("proxyto", "code", "c"),
            ("allowtoken", False, "t"), ("download", True, "d"), ("additionalParams", True, "a"),
        ]:
            if operation.get(key) == value:
                out += flag
        return out or "-"

    def eras(self, operation):
        row = self.versions.get((operation["method"], operation["path"]))
        if row is None:
            return format(1 << (len(ERAS) - 1), "02x")
        bits = sum(1 << i for i, era in enumerate(ERAS) if row[era] == "1")
        if operation["path"] == "/access/vncticket":
            # PVE 8.4 got it in April 2026; EraPatches takes it from the earlier one.
            bits |= 1 << ERAS.index("8.4")
        return format(bits, "02x")

    def line(self, operation):
        fields = [
            operation["method"] + " " + operation["path"], self.eras(operation),
            self.flags(operation), self.permission(operation["perm"]),
            # A read without a description of what it gives.
            "x" if operation["method"] == "GET" and operation["returns"] == {"type": "null"}
            else self.returns(operation["returns"]),
        ]
        for parameter in operation["params"]:
            fields += [text(parameter["name"]), self.written(parameter)]
        return "\t".join(fields)


def unite(operation):
    """Turns an operation with variants into one whose parameters have them."""
    union = operation.pop("oneOf", None)
    if not union:
        return
    variants = union["variants"]
    merged = []
    for parameter in operation["params"]:
        name = parameter["name"]
        found = [
            (v["instanceType"], p) for v in variants for p in v["params"] if p["name"] == name
        ]
        if found and (len(found) < len(variants) or parameter.pop("differs", False)):
            merged.append({
                "name": name, "type": parameter["type"], "typeProperty": union["typeProperty"],
                "oneOf": [
                    {**{k: v for k, v in p.items() if k != "name"}, "instanceTypes": [kind]}
                    for kind, p in found
                ],
            })
        else:
            merged.append(parameter)
    merged.append({
        "name": union["typeProperty"], "type": "string", "enum": [v["instanceType"] for v in variants],
    })
    operation["params"] = sorted(merged, key=lambda p: p["name"])


def find_drive(operations):
    """The keys of `ide[n]`: `cdrom` is another name of ide2, and its format has only a name."""
    for operation in operations:
        for parameter in operation["params"]:
            if parameter["name"] == "ide[n]":
                return parameter["format"]
    raise ValueError("no operation has ide[n]")


def main():
    with open(sys.argv[1]) as file:
        operations = json.load(file)
    with open(sys.argv[2]) as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    versions = {(row[0], row[1]): dict(zip(rows[0], row)) for row in rows[1:]}
    drive = find_drive(operations)
    for operation in operations:
        unite(operation)
        for parameter in operation["params"]:
            if parameter.get("format") == "pve-qm-ide":
                parameter["format"] = drive
    table = Table(operations, versions)
    shared = table.shared()
    lines = shared + [table.line(operation) for operation in operations]
    body = "\n".join(lines)
    if '"""##' in body or "\\##" in body:
        raise ValueError("the text would end its Swift literal")
    print("// Generated by generate.py; don't edit.")
    print("// swift-format-ignore-file")
    print()
    print("extension SchemaTable {")
    print("  /// The table; ``SchemaTable`` describes its format.")
    print('  static let generated: StaticString = ##"""')
    print(body)
    print('"""##')
    print("}")


main()
