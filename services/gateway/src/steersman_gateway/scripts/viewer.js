// Shows the desktop of a chat as it is, and lets a person take it over.
// RFB 3.8 with plain pixels: small, and good where the line is; viewers such as noVNC open the
// same WebSocket and spare the line. Everything is set as text, never as HTML.
const base = location.pathname.replace(/\/viewer$/, "");
const at = (id) => document.getElementById(id);
const [canvas, about, take, hide, back, again, pointer, keys, size, clip, give] =
  ["screen", "about", "take", "private", "back", "again", "pointer", "keys", "size", "clip", "give"]
    .map(at);
const paint = canvas.getContext("2d", { alpha: false });

let socket = null;
let send = () => {};
let mine = false;
let buttons = 0;

// -- what was received, as a stream -----------------------------------------------------------

class Bytes {
  constructor() {
    this.parts = [];
    this.length = 0;
    this.wanted = null;
  }
  push(part) {
    this.parts.push(part);
    this.length += part.length;
    this.look();
  }
  look() {
    if (this.wanted && this.length >= this.wanted.count) {
      const { count, resolve } = this.wanted;
      this.wanted = null;
      resolve(this.take(count));
    }
  }
  take(count) {
    const taken = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const part = this.parts[0];
      const some = part.subarray(0, count - filled);
      taken.set(some, filled);
      filled += some.length;
      if (some.length === part.length) this.parts.shift();
      else this.parts[0] = part.subarray(some.length);
    }
    this.length -= count;
    return taken;
  }
  // One reader at a time.
  exactly(count) {
    return new Promise((resolve) => {
      this.wanted = { count, resolve };
      this.look();
    });
  }
  async view(count) {
    const taken = await this.exactly(count);
    return new DataView(taken.buffer);
  }
}

// -- the protocol -----------------------------------------------------------------------------

const message = (length, fill) => {
  const view = new DataView(new ArrayBuffer(length));
  fill(view);
  send(view.buffer);
};
const ask = (incremental) => message(10, (view) => {
  view.setUint8(0, 3);
  view.setUint8(1, incremental ? 1 : 0);
  view.setUint16(6, canvas.width);
  view.setUint16(8, canvas.height);
});
const RAW = 0;
const COPY = 1;
const SIZE = -223;
const CURSOR = -239;
const CLIPBOARD = -1063131698;


// -- the shape of the pointer: drawn here, where the person points, not where it was ------------

let hot = null; // where in the shape it points; null: the server has it in the picture
let seen = null; // where the person points, as in events
const follow = () => {
  const shown = mine && hot && seen;
  canvas.style.cursor = shown ? "none" : "default";
  pointer.hidden = !shown;
  if (!shown) return;
  const [box, around] = [canvas, canvas.parentElement].map((one) => one.getBoundingClientRect());
  const scale = box.width / canvas.width;
  pointer.style.width = pointer.width * scale + "px";
  pointer.style.transform = `translate(${seen.clientX - around.x - hot[0] * scale}px, `
    + `${seen.clientY - around.y - hot[1] * scale}px)`;
};
const shape = (x, y, width, height, pixels) => {
  hot = width && height ? [x, y] : null;
  if (hot) {
    pointer.width = width;
    pointer.height = height;
    pointer.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  }
  follow();
};

// -- the clipboard: both sides say that they have something, and send it when they are asked ----

const TEXT = 1;
const [CAPS, REQUEST, PEEK, NOTIFY, PROVIDE] = [24, 25, 26, 27, 28].map((bit) => 1 << bit);
const MOST = 256 * 1024;
let offered = "";
const cut = (flags, body = new Uint8Array()) => message(12 + body.length, (view) => {
  view.setUint8(0, 6);
  view.setInt32(4, -(4 + body.length));
  view.setUint32(8, flags);
  new Uint8Array(view.buffer).set(body, 12);
});
const deflated = async (data) => new Uint8Array(await new Response(
  new Blob([data]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
// As far as it goes: servers do not end their streams, which would be an error at the end alone.
const inflated = async (data) => {
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  writer.write(data).catch(() => {});
  const reader = stream.readable.getReader();
  let found = new Uint8Array();
  const lacks = () => found.length < 4
    || found.length < 4 + Math.min(MOST, new DataView(found.buffer).getUint32(0));
  while (lacks()) {
    const { value, done } = await reader.read();
    if (done) break;
    const more = new Uint8Array(found.length + value.length);
    more.set(found);
    more.set(value, found.length);
    found = more;
  }
  reader.cancel().catch(() => {});
  return found;
};
const copied = (text) => {
  clip.value = text;
  document.body.dataset.copied = String(Number(document.body.dataset.copied || 0) + 1);
  // Into the clipboard of the person, where the browser allows that.
  if (mine && document.hasFocus() && navigator.clipboard) {
    navigator.clipboard.writeText(text).catch(() => {});
  }
};
const offer = (text) => {
  if (new TextEncoder().encode(text).length > MOST) {
    throw new Error(`The clipboard takes ${MOST / 1024} KiB.`);
  }
  offered = text;
  cut(TEXT | NOTIFY);
};
const heard = async (body) => {
  const flags = new DataView(body.buffer).getUint32(0);
  if (flags & CAPS) {
    cut(TEXT | CAPS | REQUEST | PEEK | NOTIFY | PROVIDE, new Uint8Array([0, 4, 0, 0]));
  } else if (flags & REQUEST) {
    const text = new TextEncoder().encode(offered.replace(/\r?\n/g, "\r\n") + "\0");
    const data = new Uint8Array(4 + text.length);
    new DataView(data.buffer).setUint32(0, text.length);
    data.set(text, 4);
    cut(TEXT | PROVIDE, await deflated(data));
  } else if (flags & PEEK) {
    cut(NOTIFY | (offered ? TEXT : 0));
  } else if (flags & NOTIFY) {
    if (flags & TEXT) cut(TEXT | REQUEST);
  } else if (flags & PROVIDE && flags & TEXT) {
    const data = await inflated(body.subarray(4));
    const length = new DataView(data.buffer).getUint32(0);
    const text = new TextDecoder().decode(data.subarray(4, 4 + length));
    copied(text.replace(/\0+$/, "").replaceAll("\r\n", "\n"));
  }
};

// -- what the server says -----------------------------------------------------------------------

const rectangle = async (bytes) => {
  const head = await bytes.view(12);
  const [x, y, width, height] = [0, 2, 4, 6].map((offset) => head.getUint16(offset));
  const kind = head.getInt32(8);
  if (kind === SIZE) {
    canvas.width = width;
    canvas.height = height;
    return kind;
  }
  if (kind === CURSOR) {
    const pixels = new Uint8ClampedArray(await bytes.exactly(width * height * 4));
    const line = Math.ceil(width / 8);
    const mask = await bytes.exactly(line * height);
    for (let index = 0; index < width * height; index += 1) {
      const place = Math.floor(index / width) * line + ((index % width) >> 3);
      pixels[index * 4 + 3] = (mask[place] >> (7 - ((index % width) & 7))) & 1 ? 255 : 0;
    }
    shape(x, y, width, height, pixels);
    return kind;
  }
  if (kind === COPY) {
    const source = await bytes.view(4);
    const from = [source.getUint16(0), source.getUint16(2)];
    paint.drawImage(canvas, ...from, width, height, x, y, width, height);
  } else if (kind === RAW) {
    const pixels = await bytes.exactly(width * height * 4);
    for (let index = 3; index < pixels.length; index += 4) pixels[index] = 255;
    if (width && height) {
      paint.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), x, y);
    }
  } else {
    throw new Error("unknown encoding " + kind);
  }
  return kind;
};
const speak = async (bytes) => {
  await bytes.exactly(12);
  send(new TextEncoder().encode("RFB 003.008\n"));
  const [count] = await bytes.exactly(1);
  await bytes.exactly(count);
  send(new Uint8Array([1])); // the ticket was the password
  await bytes.exactly(4);
  send(new Uint8Array([1])); // others may stay
  const head = await bytes.view(24);
  canvas.width = head.getUint16(0);
  canvas.height = head.getUint16(2);
  await bytes.exactly(head.getUint32(20));
  // Red, green, blue and nothing: as a canvas has them.
  message(20, (view) => {
    [[4, 32], [5, 24], [7, 1]].forEach(([offset, value]) => view.setUint8(offset, value));
    [8, 10, 12].forEach((offset) => view.setUint16(offset, 255));
    [[14, 0], [15, 8], [16, 16]].forEach(([offset, value]) => view.setUint8(offset, value));
  });
  const wanted = [COPY, RAW, SIZE, CURSOR, CLIPBOARD];
  message(4 + 4 * wanted.length, (view) => {
    view.setUint8(0, 2);
    view.setUint16(2, wanted.length);
    wanted.forEach((kind, index) => view.setInt32(4 + 4 * index, kind));
  });
  ask(false);
  while (true) {
    const [kind] = await bytes.exactly(1);
    if (kind === 0) {
      const news = [];
      const many = (await bytes.view(3)).getUint16(1);
      for (let index = 0; index < many; index += 1) news.push(await rectangle(bytes));
      document.body.dataset.updates = String(Number(document.body.dataset.updates || 0) + 1);
      ask(!news.includes(SIZE));
    } else if (kind === 1) {
      await bytes.exactly(6 * (await bytes.view(5)).getUint16(3));
    } else if (kind === 3) {
      const length = (await bytes.view(7)).getInt32(3);
      const body = await bytes.exactly(Math.abs(length));
      if (length < 0) await heard(body);
      else copied(new TextDecoder("latin1").decode(body));
    } else if (kind !== 2) {
      throw new Error("unknown message " + kind);
    }
  }
};

// -- input; the host drops it unless this person has control ----------------------------------

const [SHIFT, CONTROL, ALT] = [0xffe1, 0xffe3, 0xffe9];
// Not AltGraph: what a key gives with it is what travels.
const KEYS = {
  Backspace: 0xff08, Tab: 0xff09, Enter: 0xff0d, Escape: 0xff1b, Delete: 0xffff, Home: 0xff50,
  ArrowLeft: 0xff51, ArrowUp: 0xff52, ArrowRight: 0xff53, ArrowDown: 0xff54, PageUp: 0xff55,
  PageDown: 0xff56, End: 0xff57, Insert: 0xff63, ContextMenu: 0xff67, Shift: SHIFT,
  Control: CONTROL, Meta: 0xffeb, Alt: ALT, Pause: 0xff13, PrintScreen: 0xff61, "\n": 0xff0d,
};
for (let number = 1; number <= 12; number += 1) KEYS["F" + number] = 0xffbd + number;
const keysym = (name) => {
  if (name in KEYS) return KEYS[name];
  const points = [...name];
  if (points.length !== 1) return 0;
  const point = points[0].codePointAt(0);
  return point < 0x100 ? point : 0x1000000 + point;
};
const held = new Map(); // by place: what a key gave when it went down is what goes up
const key = (symbol, down) => message(8, (view) => {
  view.setUint8(0, 4);
  view.setUint8(1, down ? 1 : 0);
  view.setUint32(4, symbol);
});
const strike = (...symbols) => {
  symbols.forEach((symbol) => key(symbol, true));
  symbols.reverse().forEach((symbol) => key(symbol, false));
};
const isCapital = (name) => name !== name.toLowerCase() && name === name.toUpperCase();
const write = (text) => {
  for (const one of text) {
    // Without it the server would press Caps Lock for a capital, and leave it on.
    if (keysym(one)) strike(...(isCapital(one) ? [SHIFT] : []), keysym(one));
  }
};
const point = (event, mask) => {
  seen = event;
  follow();
  const box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.x) * canvas.width) / box.width);
  const y = Math.floor(((event.clientY - box.y) * canvas.height) / box.height);
  message(6, (view) => {
    view.setUint8(0, 5);
    view.setUint8(1, mask);
    view.setUint16(2, Math.min(Math.max(0, x), canvas.width - 1));
    view.setUint16(4, Math.min(Math.max(0, y), canvas.height - 1));
  });
};
const lift = (...only) => {
  for (const [place, symbol] of held) {
    if (only.length && !only.includes(symbol)) continue;
    key(symbol, false);
    held.delete(place);
  }
};
// Keys go to a field that nobody sees: only there do dead keys and other ways to write compose.
keys.addEventListener("keydown", (event) => {
  const symbol = keysym(event.key);
  if (!mine || !symbol || event.isComposing) return;
  const chord = event.ctrlKey || event.metaKey;
  if (chord && !event.altKey && event.key.toLowerCase() === "v") return; // `paste` comes next
  event.preventDefault();
  const prints = !(event.key in KEYS);
  // On Windows that key is Control and Alt besides.
  if (prints && event.getModifierState("AltGraph")) lift(CONTROL, ALT);
  if (prints && isCapital(event.key) && !event.shiftKey && !chord && !event.altKey) {
    write(event.key); // by Caps Lock, which is on here and not there
    return;
  }
  held.set(event.code || event.key, symbol);
  key(symbol, true);
});
keys.addEventListener("keyup", (event) => {
  const place = event.code || event.key;
  if (!held.has(place)) return;
  event.preventDefault();
  key(held.get(place), false);
  held.delete(place);
});
const composed = (event) => {
  if (event.isComposing) return;
  if (mine) write(keys.value);
  keys.value = "";
};
keys.addEventListener("input", composed);
keys.addEventListener("compositionend", composed);
keys.addEventListener("paste", (event) => {
  event.preventDefault();
  if (!mine) return;
  const text = event.clipboardData.getData("text/plain");
  const shift = [...held.values()].includes(SHIFT);
  try {
    if (text) offer(text);
  } catch (error) {
    tell(error);
    return;
  }
  lift();
  strike(CONTROL, ...(shift ? [SHIFT] : []), keysym(shift ? "V" : "v"));
});
keys.addEventListener("blur", () => lift());
canvas.addEventListener("focus", () => keys.focus({ preventScroll: true }));
canvas.addEventListener("pointerleave", () => {
  seen = null;
  follow();
});
for (const kind of ["pointerdown", "pointerup", "pointermove"]) {
  canvas.addEventListener(kind, (event) => {
    if (!mine) return;
    if (kind === "pointerdown") {
      event.preventDefault(); // or the focus would go elsewhere afterwards
      keys.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
    }
    // Left, right, middle here; left, middle, right there.
    buttons = (event.buttons & 1) | ((event.buttons & 2) << 1) | ((event.buttons & 4) >> 1);
    point(event, buttons);
  });
}
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  if (!mine) return;
  event.preventDefault();
  const wheel = event.deltaY < 0 ? 8 : event.deltaY > 0 ? 16 : event.deltaX < 0 ? 32 : 64;
  point(event, buttons | wheel);
  point(event, buttons);
}, { passive: false });

// -- the connection, and who has control ------------------------------------------------------

const call = async (path, method, body) => {
  const reply = await fetch(base + path, {
    method,
    ...(body ? { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } } : {}),
  });
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.detail || String(reply.status));
  return said;
};
const tell = (error) => { about.textContent = error.message; };
const state = (desktop, me) => {
  const { holder, private: hidden } = desktop.control || {};
  mine = Boolean(holder) && holder === me;
  take.hidden = hide.hidden = Boolean(holder);
  back.hidden = size.hidden = give.hidden = !mine;
  follow();
  const who = mine ? "you have control" : holder ? "another person has control"
    : "the agent has control";
  about.textContent = [desktop.state, desktop.width && desktop.width + "×" + desktop.height,
    who + (hidden ? ", in private" : ""), desktop.recording && "recording"]
    .filter(Boolean).join(" · ");
  document.body.dataset.mine = String(mine);
};
let me = "";
const look = async () => state(await call("", "GET"), me);
const connect = async () => {
  again.hidden = true;
  me = me || (await (await fetch("/api/v1/me")).json()).id;
  const { ticket } = await call("/ticket", "POST", { mode: "control" });
  const address = new URL(base + "?ticket=" + encodeURIComponent(ticket), location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address, ["binary"]);
  socket.binaryType = "arraybuffer";
  send = (data) => { if (socket.readyState === WebSocket.OPEN) socket.send(data); };
  const bytes = new Bytes();
  socket.addEventListener("message", (event) => bytes.push(new Uint8Array(event.data)));
  socket.addEventListener("close", (event) => {
    about.textContent = event.reason || "The view has ended.";
    again.hidden = false;
  });
  speak(bytes).catch((error) => {
    tell(error);
    socket.close();
  });
  await look();
};
take.addEventListener("click", () => call("/control", "POST", {}).then(look).catch(tell));
hide.addEventListener("click",
  () => call("/control", "POST", { private: true }).then(look).catch(tell));
back.addEventListener("click", () => {
  lift();
  call("/control", "DELETE").then(look).catch(tell);
});
give.addEventListener("click", () => {
  try {
    offer(clip.value);
  } catch (error) {
    tell(error);
  }
});
size.addEventListener("change", () => {
  // Even numbers, as the desktop has them.
  const fit = (length, low, high) => {
    const pixels = Math.floor((length * devicePixelRatio) / 2) * 2;
    return Math.min(Math.max(pixels, low), high);
  };
  const [width, height] = size.value === "window"
    ? [fit(document.body.clientWidth, 640, 4096), fit(innerHeight, 480, 2304)]
    : size.value.split("x").map(Number);
  size.value = "";
  call("", "PATCH", { width, height }).then(look).catch(tell);
});
again.addEventListener("click", () => connect().catch(tell));
setInterval(() => {
  if (socket && socket.readyState === WebSocket.OPEN) look().catch(tell);
}, 2000);
connect().catch((error) => {
  tell(error);
  again.hidden = false;
});
