//! Asks workerd about a Worker as Chrome's developer tools do: what is alive in it, once the garbage is gone.

import { once } from "node:events";

import { Failure } from "../tools/project.mjs";

export class Inspector {
  #socket;
  #asked = 0;
  #waiting = new Map();

  /** Connects to a Worker by the name of its service. */
  async connect(port, service) {
    this.#socket = new WebSocket(`ws://127.0.0.1:${port}/${service}`);
    this.#socket.addEventListener("message", ({ data }) => {
      const { id, result, error } = JSON.parse(data);
      this.#waiting.get(id)?.(result ?? new Failure(`the inspector said ${error?.message}`));
      this.#waiting.delete(id);
    });
    await once(this.#socket, "open");
    return this;
  }

  async collectGarbage() {
    await this.#ask("HeapProfiler.collectGarbage");
  }

  /** What is alive after that, in bytes: V8's heap, what the runtime keeps for it, and buffers. */
  async alive() {
    await this.collectGarbage();
    const { usedSize, embedderHeapUsedSize, backingStorageSize } = await this.#ask("Runtime.getHeapUsage");
    return usedSize + embedderHeapUsedSize + backingStorageSize;
  }

  close() {
    this.#socket?.close();
  }

  async #ask(method) {
    const id = (this.#asked += 1);
    const answered = new Promise((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method }));
    const result = await answered;
    if (result instanceof Failure) throw result;
    return result;
  }
}
