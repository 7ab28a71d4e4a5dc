// What guests of wasmatrix that are written in AssemblyScript have of their host.
//
//     asc guest.ts --runtime incremental --exportStart _initialize \
//         --use abort=PATH/TO/assembly/host/abort -O -o guest.wasm
//
// Functions that fail return null, or what is below zero; error() says then
// why. All text is UTF-8 on its way to the host.
import {
  error_read, http_close, http_header, http_open, http_read, http_send, http_write, input_len, input_read, kv_cas, kv_delete,
  kv_get, kv_list, kv_set, msg_publish, msg_receive, msg_subscribe, msg_unsubscribe, output_write, result_read,
} from "./host";

// ErrorCode is what error().code may be.
export enum ErrorCode {
  None = 0,
  Bounds = 1,
  TooLarge = 2,
  NoCall = 3,
  Denied = 4,
  NotFound = 5,
  Conflict = 6,
  Invalid = 7,
  Unavailable = 8, // the effect of a write is unknown
  Limit = 9,
  Timeout = 10, // the effect of a write is unknown
  Handle = 11,
  Failed = 12,
}

let code: i32 = 0;
let scratch = new StaticArray<u64>(1); // for revisions

// error is the code of the last call: None where it did not fail.
export function error(): i32 {
  return code;
}

// errorText is what the host says of the last error of this invocation.
export function errorText(): string {
  const text = new ArrayBuffer(512);
  const n = error_read(changetype<usize>(text), 512);
  return String.UTF8.decode(text.slice(0, n));
}

function check(n: i32): i32 {
  code = n < 0 ? -n : 0;
  return n;
}

// @ts-ignore: decorator
@inline
function at(b: ArrayBuffer): usize {
  return changetype<usize>(b);
}

// whole returns a result of n bytes, of which buf has the beginning.
function whole(buf: ArrayBuffer, n: i32): ArrayBuffer {
  const have = buf.byteLength;
  if (n <= have) return buf.slice(0, n);
  const all = new ArrayBuffer(n);
  memory.copy(at(all), at(buf), have);
  for (let done = have; done < n; ) {
    const more = result_read(done, at(all) + done, n - done);
    if (more <= 0) break;
    done += more;
  }
  return all;
}

// text and bytes turn one into the other.
export function text(b: ArrayBuffer): string {
  return String.UTF8.decode(b);
}

export function bytes(s: string): ArrayBuffer {
  return String.UTF8.encode(s);
}

// input is what the invocation under way was given.
export function input(): ArrayBuffer {
  const b = new ArrayBuffer(input_len());
  input_read(0, at(b), b.byteLength);
  return b;
}

// output appends to what the invocation returns.
export function output(b: ArrayBuffer): i32 {
  return check(output_write(at(b), b.byteLength));
}

// Entry is a value and its revision, which every write changes.
export class Entry {
  constructor(public value: ArrayBuffer, public revision: u64) {}
}

// Page is a part of a list of keys.
export class Page {
  constructor(public keys: string[], public more: bool) {}
}

// Store is what a capability of type kv gives access to.
export class Store {
  private id: ArrayBuffer;

  constructor(capability: string) {
    this.id = bytes(capability);
  }

  // get returns an entry; null with ErrorCode.NotFound where there is none.
  get(key: string): Entry | null {
    const k = bytes(key);
    const buf = new ArrayBuffer(1024);
    const n = check(kv_get(at(this.id), this.id.byteLength, at(k), k.byteLength, at(buf), buf.byteLength, changetype<usize>(scratch)));
    if (n < 0) return null;
    return new Entry(whole(buf, n), scratch[0]);
  }

  // set writes an entry, whatever there is, that lives for ttl milliseconds, or
  // for ever. It returns the revision, or 0 where it failed.
  set(key: string, value: ArrayBuffer, ttl: i64 = 0): u64 {
    const k = bytes(key);
    const n = kv_set(at(this.id), this.id.byteLength, at(k), k.byteLength, at(value), value.byteLength, ttl, changetype<usize>(scratch));
    return check(n) < 0 ? 0 : scratch[0];
  }

  // cas writes an entry if its revision is expect, 0 for none. It returns the new
  // revision, or 0 where it failed, with ErrorCode.Conflict if it is another.
  cas(key: string, expect: u64, value: ArrayBuffer, ttl: i64 = 0): u64 {
    const k = bytes(key);
    const n = kv_cas(at(this.id), this.id.byteLength, at(k), k.byteLength, expect, at(value), value.byteLength, ttl, changetype<usize>(scratch));
    return check(n) < 0 ? 0 : scratch[0];
  }

  // delete returns 1, 0 where there was nothing, or what is below zero.
  delete(key: string): i32 {
    const k = bytes(key);
    return check(kv_delete(at(this.id), this.id.byteLength, at(k), k.byteLength));
  }

  // list returns keys that begin with prefix and come after after, at most limit
  // of them; 0 is as many as the host gives.
  list(prefix: string, after: string = "", limit: u32 = 0): Page | null {
    const p = bytes(prefix);
    const a = bytes(after);
    const buf = new ArrayBuffer(4096);
    const n = check(kv_list(at(this.id), this.id.byteLength, at(p), p.byteLength, at(a), a.byteLength, limit, at(buf), buf.byteLength));
    if (n < 0) return null;
    const page = whole(buf, n);
    const count = load<u32>(at(page));
    const keys: string[] = [];
    let pos: i32 = 8;
    for (let i: u32 = 0; i < count; i++) {
      const size = load<u32>(at(page) + pos);
      keys.push(String.UTF8.decodeUnsafe(at(page) + pos + 4, size));
      pos += 4 + size;
    }
    return new Page(keys, load<u32>(at(page) + 4) != 0);
  }
}

// Response is one whose body is still to be read, and that is to be closed.
export class Response {
  constructor(public status: i32, public handle: i32) {}

  // header is lines of "Name: value".
  header(): string {
    const buf = new ArrayBuffer(4096);
    const n = check(http_header(this.handle, at(buf), buf.byteLength));
    return n < 0 ? "" : text(whole(buf, n));
  }

  // read returns some of the body; it is empty at its end, and null after an error.
  read(size: i32 = 32768): ArrayBuffer | null {
    const buf = new ArrayBuffer(size);
    const n = check(http_read(this.handle, at(buf), size));
    return n < 0 ? null : buf.slice(0, n);
  }

  // length reads the body to its end, and returns how many bytes it had, or what is
  // below zero.
  length(): i64 {
    const buf = new ArrayBuffer(32768);
    let all: i64 = 0;
    while (true) {
      const n = check(http_read(this.handle, at(buf), buf.byteLength));
      if (n < 0) return n;
      if (n == 0) return all;
      all += n;
    }
  }

  close(): void {
    http_close(this.handle);
  }
}

// Client is what a capability of type http gives access to.
export class Client {
  private id: ArrayBuffer;

  constructor(capability: string) {
    this.id = bytes(capability);
  }

  // request makes a request, whose header is lines of "Name: value", each with its
  // end. Timeout is in milliseconds; 0 is the host's.
  request(method: string, url: string, header: string = "", body: ArrayBuffer | null = null, timeout: i64 = 0): Response | null {
    const m = bytes(method);
    const u = bytes(url);
    if (body !== null) header += "Content-Length: " + body.byteLength.toString() + "\r\n";
    const h = bytes(header);
    const handle = check(http_open(at(this.id), this.id.byteLength, at(m), m.byteLength, at(u), u.byteLength, at(h), h.byteLength, timeout));
    if (handle < 0) return null;
    if (body !== null) {
      for (let done = 0; done < body.byteLength; ) {
        const n = min(body.byteLength - done, 1 << 20);
        if (http_write(handle, at(body) + done, n) < 0) break; // the server may have answered already
        done += n;
      }
    }
    const status = check(http_send(handle));
    if (status < 0) {
      http_close(handle);
      return null;
    }
    return new Response(status, handle);
  }

  get(url: string): Response | null {
    return this.request("GET", url);
  }
}

// Message is one that was delivered.
export class Message {
  constructor(public handle: i32, public dropped: u32, public topic: string, public data: ArrayBuffer) {}

  // parse reads one as the host gives it: the input of wasmatrix_on_message.
  static parse(b: ArrayBuffer): Message {
    const topic = load<u32>(at(b) + 8);
    return new Message(
      load<i32>(at(b)), load<u32>(at(b) + 4), String.UTF8.decodeUnsafe(at(b) + 12, topic), b.slice(12 + topic),
    );
  }
}

// Bus is what a capability of type messaging gives access to.
export class Bus {
  private id: ArrayBuffer;

  constructor(capability: string) {
    this.id = bytes(capability);
  }

  // publish returns 0, or what is below zero.
  publish(topic: string, data: ArrayBuffer): i32 {
    const t = bytes(topic);
    return check(msg_publish(at(this.id), this.id.byteLength, at(t), t.byteLength, at(data), data.byteLength));
  }

  // subscribe has messages wait for receive. It returns a handle, or what is below
  // zero.
  subscribe(topic: string, group: string = ""): i32 {
    return this.open(topic, group, 0);
  }

  // push has the host call the exported function wasmatrix_on_message for each
  // message, whose input is the message.
  push(topic: string, group: string = ""): i32 {
    return this.open(topic, group, 1);
  }

  private open(topic: string, group: string, mode: u32): i32 {
    const t = bytes(topic);
    const g = bytes(group);
    return check(msg_subscribe(at(this.id), this.id.byteLength, at(t), t.byteLength, at(g), g.byteLength, mode));
  }
}

// receive waits for a message, for timeout milliseconds or, below 0, for as long as
// it takes; null with ErrorCode.Timeout when none came.
export function receive(handle: i32, timeout: i64 = -1): Message | null {
  const buf = new ArrayBuffer(4096);
  const n = check(msg_receive(handle, timeout, at(buf), buf.byteLength));
  return n < 0 ? null : Message.parse(whole(buf, n));
}

// unsubscribe ends a subscription.
export function unsubscribe(handle: i32): i32 {
  return check(msg_unsubscribe(handle));
}
