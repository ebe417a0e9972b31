// The sound: one audio element over the recording, if the farm has one that can be heard.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";

import { address } from "../../api/client";

export interface Player {
  readonly audio: HTMLAudioElement;
  readonly playing: boolean;
  readonly rate: number;
  seek(seconds: number): void;
  toggle(): void;
  setRate(rate: number): void;
  /** Wait while somebody types; what was heard last is heard again when it goes on. */
  yieldTo(): void;
  /** Play a few seconds and stop. */
  hear(start: number, seconds: number): void;
}

const ROLL_BACK_SECONDS = 1;

export const RATES = [0.75, 1, 1.25, 1.5, 1.75, 2];

/** Null where there is nothing to be heard. */
export function usePlayer(id: string): Player | null {
  const url = address(`api/transcriptions/${id}/audio`);
  const { data: there } = useQuery({
    queryKey: ["audio", id],
    staleTime: Infinity,
    queryFn: async () => (await fetch(url, { method: "HEAD" })).ok,
  });
  const audio = useMemo(() => new Audio(), []);
  const [playing, setPlaying] = useState(false);
  const [rate, setRate] = useState(1);
  const [broken, setBroken] = useState(false);
  const waits = useRef({ typed: false, until: Infinity });
  useEffect(() => {
    if (!there) return;
    const changed = () => setPlaying(!audio.paused);
    const failed = () => setBroken(true);
    const enough = () => audio.currentTime >= waits.current.until && audio.pause();
    audio.addEventListener("play", changed);
    audio.addEventListener("pause", changed);
    audio.addEventListener("error", failed);
    audio.addEventListener("timeupdate", enough);
    audio.preload = "metadata";
    audio.src = url;
    document.body.append(audio);
    return () => {
      audio.removeEventListener("play", changed);
      audio.removeEventListener("pause", changed);
      audio.removeEventListener("error", failed);
      audio.removeEventListener("timeupdate", enough);
      audio.pause();
      audio.removeAttribute("src");
      audio.load();
      audio.remove();
    };
  }, [audio, there, url]);
  return useMemo(
    () =>
      there && !broken
        ? {
            audio,
            playing,
            rate,
            seek: (seconds) => {
              waits.current = { typed: false, until: Infinity };
              audio.currentTime = Math.max(0, seconds);
            },
            toggle: () => {
              if (!audio.paused) return audio.pause();
              if (waits.current.typed) audio.currentTime = Math.max(0, audio.currentTime - ROLL_BACK_SECONDS);
              waits.current = { typed: false, until: Infinity };
              void audio.play().catch(() => undefined);
            },
            yieldTo: () => {
              if (audio.paused) return;
              audio.pause();
              waits.current.typed = true;
            },
            hear: (start, seconds) => {
              waits.current = { typed: false, until: start + seconds };
              audio.currentTime = start;
              void audio.play().catch(() => undefined);
            },
            setRate: (chosen) => {
              audio.playbackRate = chosen;
              setRate(chosen);
            },
          }
        : null,
    [there, broken, audio, playing, rate],
  );
}

/** The keys of headphones, keyboards and pedals for media, wherever the cursor is. */
export function useMediaKeys(player: Player | null, seek: (seconds: number) => void, title: string): void {
  const latest = useRef({ player, seek });
  latest.current = { player, seek };
  const there = player !== null;
  useEffect(() => {
    const session = (navigator as Partial<Navigator>).mediaSession;
    if (!session || !there) return;
    const toggle = () => latest.current.player?.toggle();
    const skip = (by: number) => () => latest.current.seek((latest.current.player?.audio.currentTime ?? 0) + by);
    session.metadata = new MediaMetadata({ title });
    const keys = { play: toggle, pause: toggle, seekbackward: skip(-5), seekforward: skip(5), previoustrack: skip(-5), nexttrack: skip(5) };
    for (const [key, act] of Object.entries(keys)) session.setActionHandler(key as MediaSessionAction, act);
    return () => Object.keys(keys).forEach((key) => session.setActionHandler(key as MediaSessionAction, null));
  }, [there, title]);
}

/** Calls back with the time of the sound: each frame while it plays, and whenever it is moved. */
export function useTime(audio: HTMLAudioElement | undefined, heard: (seconds: number) => void): void {
  useEffect(() => {
    if (!audio) return;
    let frame = 0;
    const tick = () => {
      heard(audio.currentTime);
      if (!audio.paused) frame = requestAnimationFrame(tick);
    };
    const begin = () => {
      cancelAnimationFrame(frame);
      tick();
    };
    audio.addEventListener("play", begin);
    audio.addEventListener("seeked", begin);
    audio.addEventListener("timeupdate", begin);
    return () => {
      cancelAnimationFrame(frame);
      audio.removeEventListener("play", begin);
      audio.removeEventListener("seeked", begin);
      audio.removeEventListener("timeupdate", begin);
    };
  }, [audio, heard]);
}
