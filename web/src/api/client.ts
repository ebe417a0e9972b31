// The one way to the farm's API: typed by its OpenAPI document, relative to the page, refusals as `ApiError`.
import createClient from "openapi-fetch";

import { inWords } from "../texts";
import type { ErrorBody, paths } from "./schema";

/** Sent with everything that changes something; no other site's page can send it. */
export const APP_HEADER = { "Whisper-Farm-App": "1" };

const NO_ANSWER = "server_unreachable";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

export const api = createClient<paths>({ baseUrl: ".", headers: APP_HEADER });

/** The data of an answer; throws `ApiError` for a refusal, and where there is no answer. */
export async function data<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call.catch((error: unknown) => {
    throw error instanceof TypeError ? noAnswer() : error; // of `fetch`
  });
  if (!response.ok) throw refusal(response.status, error);
  return data as T;
}

export function refusal(status: number, body: unknown): ApiError {
  const said = (body as ErrorBody | undefined)?.error;
  const code = said?.code ?? "unknown";
  return new ApiError(status, code, inWords(code, said?.message ?? `HTTP ${status}`), said?.details);
}

export function noAnswer(): ApiError {
  return new ApiError(503, NO_ANSWER, inWords(NO_ANSWER, "The farm does not answer."));
}

/** The address of something of the API, for links, media and uploads. */
export function address(path: string): string {
  return new URL(path.replace(/^\//, ""), document.baseURI).href;
}
