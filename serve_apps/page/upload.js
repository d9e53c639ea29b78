// A resumable upload by tus 1.0.0: parts of 8 MB, each asked where the last one ended after a break.
// No file name is sent.

import { call, patiently, ServiceError } from "./service.js";

const TUS = { "tus-resumable": "1.0.0" };
const MB = 2 ** 20;
const MEMORY = "sleepmami-upload"; // of this tab: the upload that a reload of the page interrupts

export class Upload {
  /**
   * @param recording CleanRecording
   * @param partMb largest part that the service takes
   * @param onProgress told the bytes that have arrived
   * @param onWait told of a failure that may pass, and the seconds until the next attempt
   */
  constructor(recording, { partMb, onProgress, onWait }) {
    this.recording = recording;
    this.partBytes = Math.min(partMb, 8) * MB;
    this.onProgress = onProgress;
    this.onWait = onWait;
    this.path = remembered(recording);
    this.offset = 0;
    this.controller = null;
  }

  get id() {
    return this.path?.split("/").at(-1) ?? null;
  }

  get done() {
    return this.path !== null && this.offset === this.recording.size;
  }

  /** Send what is missing; AbortError after stop(). Call it again to go on. */
  async run() {
    this.controller = new AbortController();
    const { signal } = this.controller;
    const again = { signal, onWait: this.onWait };
    await patiently(() => this.findOrBegin(signal), again);
    while (this.offset < this.recording.size) {
      let failed = false;
      await patiently(async () => {
        if (failed) await this.ask(signal); // a part of it may have arrived
        failed = true;
        if (this.offset < this.recording.size) await this.send(signal);
      }, again);
    }
  }

  /** Pause: what is on its way is given up, what has arrived stays. */
  stop() {
    this.controller?.abort();
  }

  async findOrBegin(signal) {
    if (this.path !== null) {
      try {
        return await this.ask(signal);
      } catch (error) {
        if (error.code !== "upload_not_found") throw error;
        this.path = null; // deleted or expired since
      }
    }
    return this.begin(signal);
  }

  async begin(signal) {
    const headers = { ...TUS, "upload-length": String(this.recording.size) };
    const response = await call("POST", "/v1/uploads", { headers, signal });
    this.path = response.headers.get("location");
    this.offset = 0;
    sessionStorage.setItem(MEMORY, JSON.stringify({ path: this.path, print: printOf(this.recording) }));
    this.onProgress(0);
  }

  async ask(signal) {
    try {
      this.move(await call("HEAD", this.path, { headers: TUS, signal }));
    } catch (error) {
      // the answer to HEAD has no body that could say so
      throw error.status === 404 ? new ServiceError("upload_not_found", { status: 404 }) : error;
    }
  }

  async send(signal) {
    const body = await this.recording.slice(this.offset, this.offset + this.partBytes);
    const headers = {
      ...TUS,
      "upload-offset": String(this.offset),
      "content-type": "application/offset+octet-stream",
    };
    this.move(await call("PATCH", this.path, { headers, body, signal }));
  }

  move(response) {
    this.offset = Number(response.headers.get("upload-offset"));
    this.onProgress(this.offset);
  }
}

/** Forget the upload that this tab remembers. */
export function forgetUpload() {
  sessionStorage.removeItem(MEMORY);
}

function remembered(recording) {
  const memory = JSON.parse(sessionStorage.getItem(MEMORY) ?? "{}");
  return memory.print === printOf(recording) ? memory.path : null;
}

/** Tells one cleaned file from another, without anything of its old header. */
function printOf({ clean, size, file }) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of clean) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return `${hash}-${size}-${file.lastModified}`;
}
