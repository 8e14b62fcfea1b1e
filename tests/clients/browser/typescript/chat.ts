// A stranger's program, by the rules of its own tsconfig.json: the module's types hold in it, and its inside is not judged.
import { StreamChatError, streamChat } from "../../../../clients/browser/stream-chat.js";
import type { Attempt, Options, Report, Token } from "../../../../clients/browser/stream-chat.js";

export async function ask(options: Options): Promise<[Token[], Report]> {
  const tokens: Token[] = [];
  const answer = streamChat({ ...options, onattempt: ({ cause }: Attempt) => console.log(cause) });
  try {
    for await (const token of answer) tokens.push(token);
  } catch (error) {
    if (error instanceof StreamChatError) console.log(error.reason, error.status, error.retryAfterMs);
  }
  return [tokens, answer.report];
}

// @ts-expect-error  no address
void ask({ url: 3, message: "x" });
// @ts-expect-error  no such transport
void ask({ url: "/chat", message: "x", transport: "pigeon" });
// @ts-expect-error  nothing is asked
void ask({ url: "/chat" });
