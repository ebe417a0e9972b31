// The languages of the app. Another one is one more file with an object of the same shape.
import { de } from "./de";
import { en } from "./en";

export type { Texts } from "./en";
export const languages = { en, de };
export type Language = keyof typeof languages;

export function preferredLanguage(): Language {
  const stored = localStorage.getItem("language");
  if (stored === "en" || stored === "de") return stored;
  return navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
}

/** What went wrong, in the language of the page; where it has no words for that, in those of the server. */
export function inWords(code: string, message: string): string {
  const said = languages[document.documentElement.lang as Language].problems[code];
  return said?.endsWith(":") ? `${said} ${message}` : (said ?? message);
}

/** The same for a reason that may begin with a code: `recogniser_crashed: It died.` */
export function reasonInWords(reason: string): string {
  const [, code, message] = /^(?:not cut: )?([a-z_]+): (.+)$/s.exec(reason) ?? [];
  return code && message ? inWords(code, message) : reason;
}
