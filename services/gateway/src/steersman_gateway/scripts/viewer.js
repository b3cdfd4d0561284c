// Shows the desktop of a chat as it is, and lets a person take it over.
// RFB 3.8 with plain pixels: small, and good where the line is; viewers such as noVNC open the
// same WebSocket and spare the line. Everything is set as text, never as HTML.
const base = location.pathname.replace(/\/viewer$/, "");
const at = (id) => document.getElementById(id);
const [canvas, about, take, hide, back, again] =
  ["screen", "about", "take", "private", "back", "again"].map(at);
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

const rectangle = async (bytes) => {
  const head = await bytes.view(12);
  const [x, y, width, height] = [0, 2, 4, 6].map((offset) => head.getUint16(offset));
  const kind = head.getInt32(8);
  if (kind === SIZE) {
    canvas.width = width;
    canvas.height = height;
    return true;
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
  return false;
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
  message(4 + 3 * 4, (view) => {
    view.setUint8(0, 2);
    view.setUint16(2, 3);
    [COPY, RAW, SIZE].forEach((kind, index) => view.setInt32(4 + 4 * index, kind));
  });
  ask(false);
  while (true) {
    const [kind] = await bytes.exactly(1);
    if (kind === 0) {
      const resized = [];
      const many = (await bytes.view(3)).getUint16(1);
      for (let index = 0; index < many; index += 1) resized.push(await rectangle(bytes));
      document.body.dataset.updates = String(Number(document.body.dataset.updates || 0) + 1);
      ask(!resized.includes(true));
    } else if (kind === 1) {
      await bytes.exactly(6 * (await bytes.view(5)).getUint16(3));
    } else if (kind === 3) {
      await bytes.exactly((await bytes.view(7)).getUint32(3));
    } else if (kind !== 2) {
      throw new Error("unknown message " + kind);
    }
  }
};

// -- input; the host drops it unless this person has control ----------------------------------

const KEYS = {
  Backspace: 0xff08, Tab: 0xff09, Enter: 0xff0d, Escape: 0xff1b, Delete: 0xffff, Home: 0xff50,
  ArrowLeft: 0xff51, ArrowUp: 0xff52, ArrowRight: 0xff53, ArrowDown: 0xff54, PageUp: 0xff55,
  PageDown: 0xff56, End: 0xff57, Insert: 0xff63, ContextMenu: 0xff67, Shift: 0xffe1,
  Control: 0xffe3, Meta: 0xffeb, Alt: 0xffe9, AltGraph: 0xfe03, Pause: 0xff13, PrintScreen: 0xff61,
};
for (let number = 1; number <= 12; number += 1) KEYS["F" + number] = 0xffbd + number;
const keysym = (key) => {
  if (key in KEYS) return KEYS[key];
  const points = [...key];
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
const point = (event, mask) => {
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
const lift = () => {
  for (const symbol of held.values()) key(symbol, false);
  held.clear();
};
canvas.addEventListener("keydown", (event) => {
  const symbol = keysym(event.key);
  if (!mine || !symbol || event.isComposing) return;
  event.preventDefault();
  held.set(event.code, symbol);
  key(symbol, true);
});
canvas.addEventListener("keyup", (event) => {
  if (!held.has(event.code)) return;
  event.preventDefault();
  key(held.get(event.code), false);
  held.delete(event.code);
});
canvas.addEventListener("blur", lift);
for (const kind of ["pointerdown", "pointerup", "pointermove"]) {
  canvas.addEventListener(kind, (event) => {
    if (!mine) return;
    if (kind === "pointerdown") {
      canvas.focus();
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
  back.hidden = !mine;
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
again.addEventListener("click", () => connect().catch(tell));
setInterval(() => {
  if (socket && socket.readyState === WebSocket.OPEN) look().catch(tell);
}, 2000);
connect().catch((error) => {
  tell(error);
  again.hidden = false;
});
