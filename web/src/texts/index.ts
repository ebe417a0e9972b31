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
