// How the next recordings are to be transcribed.
import { Autocomplete, Button, Collapse, Group, NumberInput, SegmentedControl, Select, SimpleGrid, Stack, Switch, Text, Textarea, useMatches } from "@mantine/core";
import { useDebouncedCallback, useDisclosure } from "@mantine/hooks";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { IconAdjustmentsHorizontal, IconChevronDown } from "@tabler/icons-react";
import { useMemo } from "react";

import { failed } from "../../api/change";
import { api, data } from "../../api/client";
import { preferencesQuery, sessionQuery, unsent } from "../../api/queries";
import type { Defaults } from "../../api/schema";
import { modelName, useWords } from "../../words";
import style from "./Transcriptions.module.css";
import type { Choice, Options } from "./uploads";

/** `model` is `ENGINE: MODEL`, or only a model; empty for what the farm does by itself. */
export type Chosen = Required<Defaults>;

const SAVE_AFTER_MS = 400;
export const DEFAULT: Chosen = { model: "", language: "", task: "transcribe", prompt: "", priority: 0, diarize: false, speakers: 0 };
const MOST_SPEAKERS = 20;
const SEVERAL = "several";
const WHISPER = ["tiny", "base", "small", "medium", "large-v3", "large-v3-turbo"];
const LANGUAGES =
  "af ar az be bg bn bs ca cs cy da de el en es et fa fi fr gl he hi hr hu hy id is it ja kk ko lt lv mi mk mr ms ne nl no pl pt ro ru sk sl sr sv sw ta th tl tr uk ur vi zh".split(" ");

/** The highest priority that the server takes from somebody of this scope. */
function useHighestPriority(): number {
  const { data: session } = useQuery(sessionQuery);
  return session?.scope === "admin" ? 10 : 0;
}

/** What is chosen for the next recording; the farm keeps it, so it is the same in every browser. */
export function useChosen(): [Chosen, (change: Partial<Chosen>) => void] {
  const client = useQueryClient();
  const highest = useHighestPriority();
  const { data: kept } = useQuery(preferencesQuery);
  const send = (defaults: Chosen) =>
    void data(api.PATCH("/app/preferences", { body: { defaults } }))
      .catch(failed)
      .finally(() => unsent.defaults === defaults && (unsent.defaults = null));
  const save = useDebouncedCallback(send, { delay: SAVE_AFTER_MS, flushOnUnmount: true });
  const chosen = { ...DEFAULT, ...kept?.defaults, priority: Math.min(kept?.defaults.priority ?? 0, highest) };
  const choose = (change: Partial<Chosen>) => {
    const defaults = { ...chosen, ...change };
    unsent.defaults = defaults;
    void client.cancelQueries(preferencesQuery);
    client.setQueryData(preferencesQuery.queryKey, (had) => ({ glossary: "", ...had, defaults }));
    save(defaults);
  };
  return [chosen, choose];
}

/** Gives the options and the priority of what is sent now. */
export function useSending(): () => Choice {
  const [chosen] = useChosen();
  const usual = useUsual();
  const { data: kept } = useQuery(preferencesQuery);
  return () => ({ options: toOptions(chosen, usual, kept?.glossary), priority: chosen.priority });
}

/** What the farm's workers offer, as `engine: model`; models of the usual engine by their name alone. */
export function useOffers(): string[] {
  const { data: session } = useQuery(sessionQuery);
  return useMemo(() => {
    const found = (session?.offers ?? []).flatMap(({ engine, models, loaded }) =>
      [...(models ?? []), ...(loaded ?? [])].map((model) => (engine === "faster-whisper" ? model : `${engine}: ${model}`)),
    );
    return [...new Set(found)];
  }, [session]);
}

/** The model that is asked for where nobody has chosen one, written as above. */
export function useUsual(): string {
  const { data: session } = useQuery(sessionQuery);
  return session?.model ?? "";
}

/** The engine and the model to ask for. */
function recogniser(wanted: string): Partial<Options> {
  if (!wanted) return {};
  const [, engine, name] = /^([a-z][a-z0-9-]*): (.+)$/.exec(wanted) ?? [];
  return engine && name ? { engine, model: name } : { model: wanted };
}

/** `glossary`: names and words to expect in every recording. */
export function toOptions(chosen: Chosen, usual: string, glossary = ""): Partial<Options> {
  const prompt = [glossary.trim(), chosen.prompt.trim()].filter(Boolean).join(", ").slice(0, 4000);
  return {
    ...recogniser(chosen.model || usual),
    task: chosen.task,
    ...(chosen.language === SEVERAL ? { multilingual: true } : chosen.language ? { language: chosen.language } : {}),
    ...(prompt ? { initial_prompt: prompt } : {}),
    ...(chosen.diarize ? { diarize: true } : {}),
    ...(chosen.diarize && chosen.speakers ? { min_speakers: chosen.speakers, max_speakers: chosen.speakers } : {}),
  };
}

type Choosing = { readonly chosen: Chosen; readonly choose: (change: Partial<Chosen>) => void };

/** What recognises, which language, and which names to expect. */
export function RecognitionFields({ chosen, choose }: Choosing) {
  const { t, languageName } = useWords();
  const offers = useOffers();
  const usual = useUsual();
  const others = WHISPER.filter((model) => !offers.includes(model));
  const languages = useMemo(
    () =>
      LANGUAGES.map((value) => ({ value, label: languageName(value) })).sort((a, b) => a.label.localeCompare(b.label)),
    [languageName],
  );
  return (
    <>
      <SimpleGrid cols={{ base: 1, sm: 2 }} style={{ alignItems: "end" }}>
        <Autocomplete
          label={t.options.model}
          description={t.options.modelHint}
          placeholder={modelName(recogniser(usual).model ?? "")}
          value={chosen.model}
          onChange={(model) => choose({ model })}
          data={[
            ...(offers.length ? [{ group: t.options.offered, items: offers }] : []),
            { group: t.options.others, items: others },
          ]}
          clearable
        />
        <Select
          label={t.options.lang}
          description={t.options.langHint}
          data={[{ value: "", label: t.options.auto }, { value: SEVERAL, label: t.options.several }, ...languages]}
          value={chosen.language}
          onChange={(language) => choose({ language: language ?? "" })}
          searchable
          allowDeselect={false}
        />
      </SimpleGrid>
      <Textarea
        label={t.options.prompt}
        placeholder={t.options.promptHint}
        value={chosen.prompt}
        onChange={(event) => choose({ prompt: event.currentTarget.value })}
        autosize
        maxRows={4}
        maxLength={4000}
      />
    </>
  );
}

/** Whether speakers are told apart by their voices, and how many there are. `apart`: each has a channel already.
 * `bounds` are shown where no number is given. */
export function SpeakerFields({ chosen, choose, apart = false, bounds = null }: Choosing & { apart?: boolean; bounds?: string | null }) {
  const { t } = useWords();
  return (
    <Group gap="xl" align="start">
      <Switch
        label={t.options.diarize}
        description={apart ? t.options.apart : t.options.diarizeHint}
        checked={chosen.diarize && !apart}
        disabled={apart}
        onChange={(event) => choose({ diarize: event.currentTarget.checked })}
      />
      {chosen.diarize && !apart && (
        <NumberInput
          label={t.options.speakers}
          placeholder={bounds ?? t.options.auto}
          value={chosen.speakers || ""}
          onChange={(speakers) => choose({ speakers: Number(speakers) || 0 })}
          min={1}
          max={MOST_SPEAKERS}
          clampBehavior="strict"
          allowDecimal={false}
          allowNegative={false}
        />
      )}
    </Group>
  );
}

export function OptionsForm() {
  const { isPending } = useQuery(preferencesQuery);
  return isPending ? null : <KnownOptions />; // what is kept would take the place of what is typed before
}

function KnownOptions() {
  const { t } = useWords();
  const [chosen, choose] = useChosen();
  const highest = useHighestPriority();
  const orientation = useMatches<"vertical" | "horizontal">({ base: "vertical", xs: "horizontal" });
  return (
    <Stack gap="md">
      <RecognitionFields chosen={chosen} choose={choose} />
      <SpeakerFields chosen={chosen} choose={choose} />
      <Group gap="xl">
        <Labelled label={t.options.task}>
          <SegmentedControl
            aria-label={t.options.task}
            orientation={orientation}
            value={chosen.task}
            onChange={(task) => choose({ task })}
            data={[
              { value: "transcribe", label: t.options.transcribe },
              { value: "translate", label: t.options.translate },
            ]}
          />
        </Labelled>
        <Labelled label={t.options.priority}>
          <SegmentedControl
            aria-label={t.options.priority}
            value={String(chosen.priority)}
            onChange={(priority) => choose({ priority: Number(priority) })}
            data={[
              { value: "-10", label: t.options.low },
              { value: "0", label: t.options.normal },
              { value: "10", label: t.options.high },
            ].filter(({ value }) => Number(value) <= highest)}
          />
        </Labelled>
      </Group>
    </Stack>
  );
}

/** The same, behind a button. */
export function OptionsPanel() {
  const [open, { toggle }] = useDisclosure(false);
  return (
    <>
      <Group><OptionsButton open={open} toggle={toggle} /></Group>
      <Collapse expanded={open} id="options"><OptionsForm /></Collapse>
    </>
  );
}

export function OptionsButton({ open, toggle }: { open: boolean; toggle: () => void }) {
  const { t } = useWords();
  return (
    <Button
      variant="default"
      leftSection={<IconAdjustmentsHorizontal size={18} aria-hidden />}
      rightSection={<IconChevronDown size={16} aria-hidden className={open ? style.open : ""} />}
      aria-expanded={open}
      aria-controls="options"
      onClick={toggle}
    >
      {t.list.options}
    </Button>
  );
}

function Labelled({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <Stack gap={4}>
      <Text size="sm" fw={600}>{label}</Text>
      {children}
    </Stack>
  );
}
