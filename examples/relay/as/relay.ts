// Relay uses all three kinds of capabilities: on a message on the topic relay.in,
// whose data is a URL, it fetches that under the capability "web", keeps the
// status and the length of the body in kv under "relay/URL", as "200 1234", and
// publishes "URL 200 1234" on relay.out under "msg". Where the fetch fails it is
// "URL error WHY". relay.wasm is built from this file by the recipe in
// ../../README.md.
//
// It subscribes when it begins; where that was denied, listen may be invoked later.
import { Bus, Client, Message, Store, bytes, errorText, input, output, text } from "../../../sdk/assemblyscript/assembly/index";

const bus = new Bus("msg");
const web = new Client("web");
const store = new Store("kv");

let subscription: i32 = 0; // while there is none
let count: i32 = 0;

subscribe();

function subscribe(): bool {
  if (subscription <= 0) subscription = bus.push("relay.in", "relays");
  return subscription > 0;
}

export function listen(): i32 {
  if (subscribe()) return 0;
  output(bytes(errorText()));
  return 1;
}

// fetch returns the status and the length of the body; null after an error.
function fetch(url: string): string | null {
  const response = web.get(url);
  if (response === null) return null;
  const length = response.length();
  response.close();
  return length < 0 ? null : response.status.toString() + " " + length.toString();
}

export function wasmatrix_on_message(): i32 {
  const url = text(Message.parse(input()).data);
  let result = fetch(url);
  if (result !== null && store.set("relay/" + url, bytes(result)) == 0) result = null;
  if (result === null) result = "error " + errorText();
  count++;
  return bus.publish("relay.out", bytes(url + " " + result)) < 0 ? 1 : 0;
}

// handled is how many messages the instance has handled since it began.
export function handled(): i32 {
  return count;
}
