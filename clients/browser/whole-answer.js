// @ts-check
import { StreamChatError } from "./stream-chat.js";

/** @import { Attempt, Report, Token } from "./stream-chat.js" */

/**
 * The whole answer at once, as it comes without streaming, told as `streamChat` tells its own: for comparisons. There is
 * one attempt. Throws StreamChatError, or the signal's reason.
 * @param {{ url: string, message: string, body?: object, signal?: AbortSignal }} question
 * @returns {AsyncGenerator<Token, void, void> & { report: Report }}
 */
export function wholeAnswer(question) {
  /** @type {Report} */
  const report = { attempts: [], requests: 0, bytes: 0, restarts: 0, checked: "" };
  return Object.assign(read(question, report), { report });
}

/**
 * @param {Parameters<typeof wholeAnswer>[0]} question
 * @param {Report} report
 */
async function* read(question, report) {
  const beganMs = performance.now();
  const attempt = /** @type {Attempt} */ ({ from: 0, startMs: 0, tokens: 0, cause: "stopped" });
  report.attempts.push(attempt);
  /** @type {Token[]} */
  let tokens = [];
  try {
    tokens = await ask(question, report);
    [attempt.cause, attempt.tokens] = ["", tokens.length];
  } catch (error) {
    if (error instanceof StreamChatError) attempt.cause = error.reason;
    throw error;
  } finally {
    attempt.endMs = performance.now() - beganMs;
  }
  yield* tokens;
}

/**
 * @param {Parameters<typeof wholeAnswer>[0]} question
 * @param {Report} report
 * @returns {Promise<Token[]>}
 */
async function ask({ url, message, body, signal }, report) {
  /** @param {unknown} error */
  const failed = (error) => {
    throw signal?.aborted ? signal.reason : new StreamChatError("network", String(error));
  };
  const headers = { "Content-Type": "application/json" };
  report.requests++;
  const asked = { method: "POST", headers, body: JSON.stringify({ ...body, message }), signal };
  const response = await fetch(url, asked).catch(failed);
  const text = await response.text().catch(failed);
  report.bytes += text.length;
  if (!response.ok) throw new StreamChatError(`status ${response.status}`);
  try {
    return JSON.parse(text).tokens;
  } catch {
    throw new StreamChatError("format", "not an answer as JSON");
  }
}
