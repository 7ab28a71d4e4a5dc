// Uses what the examples do not of the SDK. check returns the number of the first
// step that is not as it should be, 0 if all are.
import { Bus, Client, ErrorCode, Message, Store, bytes, error, input, output, receive, text, unsubscribe } from "../assembly/index";

function filled(n: i32): ArrayBuffer {
  const b = new ArrayBuffer(n);
  for (let i = 0; i < n; i++) store<u8>(changetype<usize>(b) + i, <u8>i);
  return b;
}

function same(a: ArrayBuffer, b: ArrayBuffer): bool {
  return a.byteLength == b.byteLength && memory.compare(changetype<usize>(a), changetype<usize>(b), a.byteLength) == 0;
}

export function check(): i32 {
  const kv = new Store("kv");
  if (kv.get("none") !== null || error() != ErrorCode.NotFound) return 1;
  const sizes: i32[] = [0, 1, 1024, 1025, 1 << 20]; // around the first buffer
  for (let i = 0; i < sizes.length; i++) {
    const value = filled(sizes[i]);
    const revision = kv.set("value", value, 1000);
    const entry = kv.get("value");
    if (revision == 0 || entry === null || entry.revision != revision || !same(entry.value, value) || error() != ErrorCode.None) return 2;
  }
  if (kv.cas("value", 1 << 40, bytes("x")) != 0 || error() != ErrorCode.Conflict) return 3;
  if (kv.delete("value") != 1 || kv.delete("value") != 0) return 4;
  for (let i = 0; i < 30; i++) kv.set("list/" + "k".repeat(500) + (100 + i).toString(), bytes(""));
  const page = kv.list("list/", "", 20);
  if (page === null || page.keys.length != 20 || !page.more || page.keys[19] != "list/" + "k".repeat(500) + "119") return 5;
  const rest = kv.list("list/", page.keys[19]);
  if (rest === null || rest.keys.length != 10 || rest.more) return 6;

  const web = new Client("web");
  const body = filled(100_000);
  const response = web.request("POST", "http://host/", "X-A: b\r\n", body, 1000);
  if (response === null || response.status != 200 || !response.header().includes("X-Echo: yes\r\n")) return 7;
  let got = 0;
  while (true) {
    const piece = response.read(7000);
    if (piece === null) return 8;
    if (piece.byteLength == 0) break;
    got += piece.byteLength;
  }
  response.close();
  if (got != body.byteLength || response.read() !== null || error() != ErrorCode.Handle) return 9;

  const bus = new Bus("msg");
  const handle = bus.subscribe("topic", "group");
  if (handle <= 0 || bus.publish("topic", body) != 0) return 10;
  const m = receive(handle, 1000);
  if (m === null || m.topic != "topic" || m.handle != handle || m.dropped != 0 || !same(m.data, body)) return 11;
  if (receive(handle, 0) !== null || error() != ErrorCode.Timeout) return 12;
  if (unsubscribe(handle) != 0 || unsubscribe(handle) != -ErrorCode.Handle) return 13;
  return 0;
}

// echo gives its input back.
export function echo(): i32 {
  return output(input());
}

// fail throws, which is said on stderr.
export function fail(): void {
  const b = text(input());
  if (b.length < 1000) throw new Error("thrown: " + b);
  Message.parse(input());
}
