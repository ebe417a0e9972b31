// The texts in the chosen language, and numbers and times as that language writes them.
import { createContext, type ReactNode, use, useEffect, useMemo, useState } from "react";

import { type Language, languages, preferredLanguage, type Texts } from "./texts";

interface Words {
  readonly t: Texts;
  readonly language: Language;
  readonly choose: (language: Language) => void;
  readonly number: (value: number, digits?: number) => string;
  readonly ago: (seconds: number) => string;
  readonly languageName: (code: string) => string;
}

const Context = createContext<Words | null>(null);

export function WordsProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState<Language>(preferredLanguage);
  document.documentElement.lang = language;
  const words = useMemo<Words>(() => {
    const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
    const names = new Intl.DisplayNames(language, { type: "language", fallback: "code" });
    return {
      t: languages[language],
      language,
      choose: (chosen) => {
        localStorage.setItem("language", chosen);
        setLanguage(chosen);
      },
      number: (value, digits = 0) =>
        new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value),
      ago: (seconds) => relative.format(...coarse(seconds)),
      languageName: (code) => names.of(code) ?? code,
    };
  }, [language]);
  return <Context value={words}>{children}</Context>;
}

export function useWords(): Words {
  const words = use(Context);
  if (words === null) throw new Error("no WordsProvider");
  return words;
}

function coarse(seconds: number): [number, Intl.RelativeTimeFormatUnit] {
  const past = -Math.max(0, seconds);
  if (seconds < 60) return [Math.round(past), "second"];
  if (seconds < 3600) return [Math.round(past / 60), "minute"];
  if (seconds < 86_400) return [Math.round(past / 3600), "hour"];
  return [Math.round(past / 86_400), "day"];
}

/** 75.4 → "1:15", 10.999 → "0:11", 3700 → "1:01:40". */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value: number) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** 75.4 → "1 min 15 s", 3700 → "1 h 2 min". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 600 && whole % 60) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(count: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  for (; count >= 1000 && power < units.length - 1; power++) count /= 1000;
  return `${count < 10 && power ? count.toFixed(1) : Math.round(count)} ${units[power]}`;
}

/** The time, every so many seconds: what it is used in is drawn anew. */
export function useNow(everySeconds = 1): number {
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && setNow(Date.now() / 1000), everySeconds * 1000);
    return () => clearInterval(timer);
  }, [everySeconds]);
  return now;
}

/** A model's name as people say it: of a folder of the worker's machine only the end. */
export function modelName(model: string): string {
  return /^(\/|[A-Za-z]:\\)/.test(model) ? model.split(/[\\/]/).slice(-2).join("/") : model;
}
