// Visits counts in kv: visit adds one and returns the count, count only returns
// it. The input names the key, "visits" if it is empty. visits.wasm is built from
// this file by the recipe in ../../README.md.
import { ErrorCode, Store, bytes, error, errorText, input, output, text } from "../../../sdk/assemblyscript/assembly/index";

const store = new Store("kv");

const OK: i32 = 0;
const FAILED: i32 = 1; // nothing was counted; the output says why
const UNKNOWN: i32 = 2; // it may have been counted, or not

function key(): string {
  const name = text(input());
  return name.length == 0 ? "visits" : name;
}

function failed(): i32 {
  const e = error(); // before output, which has one of its own
  output(bytes(errorText()));
  return e == ErrorCode.Unavailable || e == ErrorCode.Timeout || e == ErrorCode.Failed ? UNKNOWN : FAILED;
}

function notACount(value: string): bool {
  if (value.length == 0) return true;
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c < 48 || c > 57) return true;
  }
  return false;
}

// visit adds one by compare-and-swap: who is overtaken tries again.
export function visit(): i32 {
  const name = key();
  while (true) {
    let count: u64 = 0;
    let revision: u64 = 0;
    const entry = store.get(name);
    if (entry !== null) {
      const value = text(entry.value);
      if (notACount(value)) {
        output(bytes("the value is not a count"));
        return FAILED;
      }
      count = U64.parseInt(value);
      revision = entry.revision;
    } else if (error() != ErrorCode.NotFound) {
      return failed();
    }
    const next = (count + 1).toString();
    if (store.cas(name, revision, bytes(next)) != 0) {
      output(bytes(next));
      return OK;
    }
    if (error() != ErrorCode.Conflict) return failed();
  }
}

export function count(): i32 {
  const entry = store.get(key());
  if (entry === null) {
    if (error() != ErrorCode.NotFound) return failed();
    output(bytes("0"));
    return OK;
  }
  output(entry.value);
  return OK;
}
