"""Values of every type, for the tests of the fingerprint."""

from __future__ import annotations

#: Type → literals that print differently. Several are equal to their neighbour for the type's own hash.
VALUES: dict[str, list[str]] = {
    "int2": ["0", "1", "-1", "32767"],
    "int4": ["0", "1", "-1", "2147483647"],
    "int8": ["0", "1", "-1", "4294967296", "4294967297", "9223372036854775807", "-9223372036854775808"],
    "oid": ["0", "1", "4294967295"],
    "bool": ["true", "false"],
    '"char"': ["a", "A", "", "\\377"],
    "text": ["", " ", "a", "A", "a ", "ä", "a\u0308", "NULL", "\\N"],
    "varchar(20)": ["", "a", "a "],
    "bpchar": ["a", "a ", "b"],
    "char(5)": ["a", "b"],
    "name": ["a", "A"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"],
    "bytea": ["", "\\x00", "\\x0000", "\\x01", "\\xff"],
    "float8": ["0", "-0", "1", "-1", "1.0000000000000002", "NaN", "Infinity", "-Infinity", "5e-324"],
    "float4": ["0", "-0", "1", "1.0000001", "NaN", "Infinity", "-Infinity", "1e-45"],
    "numeric": ["1", "1.0", "1.00", "-1", "0", "0.0", "NaN", "Infinity", "123456789012345678901234567890.5"],
    "money": ["0", "1.00", "-1.00"],
    "date": ["2026-01-01", "infinity", "-infinity", "0001-01-01 BC"],
    "time": ["00:00", "24:00", "12:00:00.000001"],
    "timetz": ["12:00+00", "13:00+01", "12:00+01"],
    "timestamp": ["2000-01-01", "2000-01-01 00:00:00.000001", "2000-01-01 01:11:34.967296", "infinity"],
    "timestamptz": ["2000-01-01Z", "2000-01-01 01:11:34.967296Z", "-infinity", "294276-12-31Z"],
    "interval": ["1 day", "24 hours", "1 mon", "30 days", "-1 day", "0"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "::1/64"],
    "cidr": ["10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/32"],
    "macaddr": ["08:00:2b:01:02:03", "08:00:2b:01:02:04"],
    "macaddr8": ["08:00:2b:ff:fe:01:02:03", "08:00:2b:ff:fe:01:02:04"],
    "bit(4)": ["0000", "0001"],
    "varbit": ["", "0", "00", "1"],
    "json": ['{"a":1}', '{"a": 1}', '{"a":1,"a":1}', "null"],
    "jsonb": ['{"a":1}', '{"a":1.0}', '{"a":1.00}', '{"a":"1"}', "{}", "[]", "null", '"null"'],
    "jsonpath": ["$.a", "$.b"],
    "tsvector": ["'a'", "'a':1", "'a':1A", "'a' 'b'"],
    "tsquery": ["'a' & 'b'", "'a' | 'b'"],
    "point": ["(0,0)", "(-0,0)", "(0,-0)", "(1e-300,0)"],
    "box": ["(1,1),(0,0)", "(1,1),(0,-0)"],
    "lseg": ["[(0,0),(1,1)]", "[(1,1),(0,0)]"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "polygon": ["((0,0),(1,1))", "((1,1),(0,0))"],
    "circle": ["<(0,0),1>", "<(1,0),1>"],
    "line": ["{1,-1,0}", "{-1,1,0}"],
    "pg_lsn": ["0/0", "0/1"],
    "xid8": ["0", "4294967296"],
    "txid_snapshot": ["1:1:", "1:2:1"],
    "regtype": ["int4", "int8"],
    "regclass": ["pg_class", "pg_type"],
    "int4[]": ["{1,2}", "[0:1]={1,2}", "[2:3]={1,2}", "{{1,2}}", "{}", "{NULL}", "{1,NULL}"],
    "int8[]": ["{1}", "{4294967296}"],
    "float8[]": ["{0}", "{-0}"],
    "text[]": ["{a}", "{A}", '{""}', "{NULL}", '{"NULL"}'],
    "numeric[]": ["{1}", "{1.0}"],
    "int4range": ["[1,5)", "[1,6)", "empty", "(,5)", "(,)"],
    "numrange": ["[1,2)", "[1.0,2)", "[1,2]"],
    "tstzrange": ["[2000-01-01Z,)", "[2000-01-02Z,)"],
    "int8multirange": ["{}", "{[1,2)}", "{[1,2),[4,5)}"],
    "fp.mood": ["sad", "happy"],
    "fp.pair": ["(1,a)", "(1,A)", "(,a)", "(1,)", '(1,"")', "(,)"],
    "fp.pair[]": ['{"(1,a)"}', '{"(1,b)"}'],
    "fp.grade": ["1", "2"],
    "fp.grades": ["{1}", "[0:0]={1}"],
    "fp.feeling": ["sad", "happy"],
    "fp.token": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"],
    "fp.blob": ["\\x00", "\\x01"],
    "fp.amount": ["0", "-0", "1"],
    "fp.longer": ["abc", "abc ", "ABC"],
    "fp.deep": ["1", "4294967296"],
    "fp.reals": ["[1,2)", "[1,2]"],
}
TYPES = """
CREATE SCHEMA fp;
CREATE TYPE fp.mood AS ENUM ('sad', 'happy');
CREATE TYPE fp.pair AS (a int, b text);
CREATE DOMAIN fp.grade AS int2;
CREATE DOMAIN fp.grades AS fp.grade[];
CREATE DOMAIN fp.feeling AS fp.mood;
CREATE DOMAIN fp.token AS uuid;
CREATE DOMAIN fp.blob AS bytea;
CREATE DOMAIN fp.amount AS float4;
CREATE DOMAIN fp.longer AS bpchar;
CREATE DOMAIN fp.shallow AS int8;
CREATE DOMAIN fp.deep AS fp.shallow;
CREATE TYPE fp.reals AS RANGE (subtype = float8);
"""
CONTRIB: dict[str, list[str]] = {
    "ext.citext": ["a", "A"],
    "ext.hstore": ["a=>1", "a=>2", 'a=>"NULL"', "a=>NULL", ""],
    "ext.ltree": ["a", "a.b"],
    "ext.cube": ["(1)", "(1,2)"],
    "ext.isbn": ["0-306-40615-2", "0-19-853453-1"],
    "ext.citext[]": ["{a}", "{A}"],
}
