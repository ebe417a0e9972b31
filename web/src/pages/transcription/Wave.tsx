// The wave form over the peaks that the farm has computed: the browser never decodes the recording.
import { useMantineTheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import WaveSurfer from "wavesurfer.js";

import { nonce } from "../../nonce";

export interface Peaks {
  /** From -1 to 1: the lowest and the highest value of each stretch of equal length, in turn. */
  readonly peaks: readonly number[];
}

export default function Wave({ peaks, audio, duration }: { peaks: Peaks; audio: HTMLAudioElement; duration: number }) {
  const box = useRef<HTMLDivElement>(null);
  const { colors } = useMantineTheme();
  useEffect(() => {
    if (!box.current || duration <= 0) return;
    const wave = WaveSurfer.create({
      container: box.current,
      media: audio,
      peaks: [peaks.peaks as number[]],
      duration,
      height: 36,
      barWidth: 2,
      barGap: 1,
      cursorWidth: 0,
      waveColor: "#8a9691",
      progressColor: colors.farm?.[5] ?? "#36a577",
      cspNonce: nonce,
    });
    return () => {
      wave.setMediaElement(new Audio()); // the sound outlives its picture
      wave.destroy();
    };
  }, [peaks, audio, duration, colors]);
  return <div ref={box} aria-hidden />;
}
