// A resumable upload by tus 1.0.0: parts of 8 MB, each asked where the last one ended after a break.
// No file name is sent.

import { call, patiently } from "./service.js";

const TUS = { "tus-resumable": "1.0.0" };
const MB = 2 ** 20;

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
    this.path = null;
    this.expires = null;
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
    if (this.path === null) await patiently(() => this.begin(signal), again);
    else await patiently(() => this.ask(signal), again);
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

  /** Delete it at the service. */
  async remove() {
    this.stop();
    if (this.path !== null) await call("DELETE", this.path, { headers: TUS });
    this.path = null;
    this.offset = 0;
  }

  async begin(signal) {
    const headers = { ...TUS, "upload-length": String(this.recording.size) };
    const response = await call("POST", "/v1/uploads", { headers, signal });
    this.path = response.headers.get("location");
    this.expires = new Date(response.headers.get("upload-expires"));
    this.offset = 0;
    this.onProgress(0);
  }

  async ask(signal) {
    const response = await call("HEAD", this.path, { headers: TUS, signal });
    this.move(response);
  }

  async send(signal) {
    const body = await this.recording.slice(this.offset, this.offset + this.partBytes);
    const headers = { ...TUS, "upload-offset": String(this.offset), "content-type": "application/offset+octet-stream" };
    this.move(await call("PATCH", this.path, { headers, body, signal }));
  }

  move(response) {
    this.offset = Number(response.headers.get("upload-offset"));
    this.onProgress(this.offset);
  }
}
