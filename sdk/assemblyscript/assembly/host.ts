// The host's functions, as docs/abi.md describes them. A module imports only
// those that it calls.

// @ts-ignore: decorator
@external("wasmatrix", "input_len")
export declare function input_len(): i32;
// @ts-ignore: decorator
@external("wasmatrix", "input_read")
export declare function input_read(offset: u32, to: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "output_write")
export declare function output_write(from: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "abi_version")
export declare function abi_version(): i32;
// @ts-ignore: decorator
@external("wasmatrix", "result_read")
export declare function result_read(offset: u32, to: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "error_read")
export declare function error_read(to: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "kv_get")
export declare function kv_get(cap: usize, capLen: u32, key: usize, keyLen: u32, buf: usize, size: u32, revision: usize): i32;
// @ts-ignore: decorator
@external("wasmatrix", "kv_set")
export declare function kv_set(cap: usize, capLen: u32, key: usize, keyLen: u32, value: usize, size: u32, ttl: i64, revision: usize): i32;
// @ts-ignore: decorator
@external("wasmatrix", "kv_cas")
export declare function kv_cas(cap: usize, capLen: u32, key: usize, keyLen: u32, expect: u64, value: usize, size: u32, ttl: i64, revision: usize): i32;
// @ts-ignore: decorator
@external("wasmatrix", "kv_delete")
export declare function kv_delete(cap: usize, capLen: u32, key: usize, keyLen: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "kv_list")
export declare function kv_list(cap: usize, capLen: u32, prefix: usize, prefixLen: u32, after: usize, afterLen: u32, limit: u32, buf: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "http_open")
export declare function http_open(cap: usize, capLen: u32, method: usize, methodLen: u32, url: usize, urlLen: u32, header: usize, headerLen: u32, timeout: i64): i32;
// @ts-ignore: decorator
@external("wasmatrix", "http_write")
export declare function http_write(handle: i32, from: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "http_send")
export declare function http_send(handle: i32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "http_header")
export declare function http_header(handle: i32, buf: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "http_read")
export declare function http_read(handle: i32, buf: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "http_close")
export declare function http_close(handle: i32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "msg_publish")
export declare function msg_publish(cap: usize, capLen: u32, topic: usize, topicLen: u32, data: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "msg_subscribe")
export declare function msg_subscribe(cap: usize, capLen: u32, topic: usize, topicLen: u32, group: usize, groupLen: u32, mode: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "msg_receive")
export declare function msg_receive(handle: i32, timeout: i64, buf: usize, size: u32): i32;
// @ts-ignore: decorator
@external("wasmatrix", "msg_unsubscribe")
export declare function msg_unsubscribe(handle: i32): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovs: usize, n: u32, written: usize): u32;

// abort is what `asc --use abort=assembly/host/abort` makes of failed assertions
// and what is thrown: a line on stderr, and a trap.
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const text = String.UTF8.encode(
    (message === null ? "abort" : message) + " at " + (file === null ? "?" : file) + ":" + line.toString() + ":" + column.toString() + "\n",
  );
  const iov = new StaticArray<u32>(3);
  iov[0] = <u32>changetype<usize>(text);
  iov[1] = <u32>text.byteLength;
  const at = changetype<usize>(iov);
  fd_write(2, at, 1, at + 8);
  unreachable();
}
