// Who speaks: the name at a segment or paragraph, and all speakers of a transcription with their share.
import { ActionIcon, Button, Group, Menu, Modal, Stack, Text } from "@mantine/core";
import { IconFilter, IconPlayerPlay, IconUser, IconUsers, IconUserX } from "@tabler/icons-react";
import { useState } from "react";

import { NameDialog, Note } from "../../shell/Parts";
import { duration, useWords } from "../../words";
import type { EditorHandle } from "./useEditor";
import style from "./Editor.module.css";
import { patchOf, sent, speakers } from "./segments";

interface MenuProps {
  readonly speaker: string | null;
  readonly editor: EditorHandle;
  /** The segments that get another name: from and to in the text. */
  readonly from: number;
  readonly to: number;
}

export function SpeakerMenu({ speaker, editor, from, to }: MenuProps) {
  const { t } = useWords();
  const [asking, setAsking] = useState<"here" | "everywhere" | null>(null);
  const [opened, setOpened] = useState(false);
  const here = async (name: string | null) => {
    await Promise.all([...editor.drafts].map((flush) => flush()));
    const all = editor.segments();
    const named = all.slice(from, to).map((one) => sent(one, { speaker: name }));
    await editor.corrections.patch(patchOf(all, from, to, named));
  };
  const everywhere = (name: string | null) => editor.corrections.change({ rename: { speaker, name } });
  const others = opened ? speakers(editor.segments()).flatMap(({ name }) => (name && name !== speaker ? [name] : [])) : [];
  return (
    <>
      <Menu position="bottom-start" opened={opened} onChange={setOpened} withinPortal>
        <Menu.Target>
          <button
            type="button"
            className={style.speaker}
            data-nobody={speaker === null || undefined}
            title={speaker ?? undefined}
            aria-label={speaker === null ? t.edit.whoSpeaks : t.edit.speakerIs(speaker)}
          >
            {speaker ?? t.edit.nobody}
          </button>
        </Menu.Target>
        <Menu.Dropdown>
          {others.map((name) => (
            <Menu.Item key={name} leftSection={<IconUser size={16} aria-hidden />} onClick={() => void here(name)}>
              {name}
            </Menu.Item>
          ))}
          <Menu.Item leftSection={<IconUser size={16} aria-hidden />} onClick={() => setAsking("here")}>
            {t.edit.otherName}
          </Menu.Item>
          {speaker !== null && (
            <Menu.Item leftSection={<IconUserX size={16} aria-hidden />} onClick={() => void here(null)}>
              {t.edit.nobody}
            </Menu.Item>
          )}
          <Menu.Divider />
          <Menu.Item leftSection={<IconUsers size={16} aria-hidden />} onClick={() => setAsking("everywhere")}>
            {speaker === null ? t.edit.nameAll : t.edit.renameEverywhere(speaker)}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <NameDialog
        title={asking === "everywhere" ? (speaker === null ? t.edit.nameAll : t.edit.renameEverywhere(speaker)) : t.edit.otherName}
        label={t.edit.speakerName}
        given={asking === "everywhere" ? (speaker ?? "") : ""}
        {...(asking === "everywhere" ? { hint: t.edit.merges } : {})}
        opened={asking !== null}
        onClose={() => setAsking(null)}
        onName={(name) => void (asking === "everywhere" ? everywhere(name) : here(name))}
      />
    </>
  );
}

const SAMPLE_SECONDS = 5;

/** All speakers with their share; each can be heard for five seconds, shown alone, and named anew everywhere. */
export function Speakers({ editor, opened, onClose, hear, onOnly }: {
  editor: EditorHandle;
  opened: boolean;
  onClose: () => void;
  hear: ((start: number, seconds: number) => void) | null;
  /** Only what this one says is to be shown. */
  onOnly: (name: string) => void;
}) {
  const { t, number } = useWords();
  const [asked, setAsked] = useState<{ name: string | null } | null>(null);
  const found = opened ? speakers(editor.segments()) : [];
  const all = found.reduce((sum, { seconds }) => sum + seconds, 0) || 1;
  return (
    <>
      <Modal opened={opened} onClose={onClose} title={t.edit.speakers}>
        <Stack gap="xs">
          {found.map(({ name, seconds, sample }) => (
            <Group key={name ?? ""} wrap="nowrap" gap="sm">
              {hear && (
                <ActionIcon variant="light" size="lg" aria-label={t.edit.sample(name ?? t.edit.nobody)} onClick={() => hear(sample, SAMPLE_SECONDS)}>
                  <IconPlayerPlay size={17} />
                </ActionIcon>
              )}
              <div className={style.grows}>
                <Text fw={600} truncate>{name ?? t.edit.nobody}</Text>
                <Note>{duration(seconds)} · {number((100 * seconds) / all)} %</Note>
              </div>
              {name !== null && found.length > 1 && (
                <ActionIcon variant="default" size={30} aria-label={t.edit.only(name)} title={t.edit.only(name)} onClick={() => (onClose(), onOnly(name))}>
                  <IconFilter size={16} />
                </ActionIcon>
              )}
              <Button size="xs" variant="default" aria-label={`${t.list.rename}: ${name === null ? t.edit.nameAll : t.edit.renameEverywhere(name)}`} onClick={() => setAsked({ name })}>
                {t.list.rename}
              </Button>
            </Group>
          ))}
        </Stack>
      </Modal>
      <NameDialog
        title={asked?.name ? t.edit.renameEverywhere(asked.name) : t.edit.nameAll}
        label={t.edit.speakerName}
        given={asked?.name ?? ""}
        hint={t.edit.merges}
        known={found.flatMap(({ name }) => (name && name !== asked?.name ? [name] : []))}
        opened={asked !== null}
        onClose={() => setAsked(null)}
        onName={(name) => void editor.corrections.change({ rename: { speaker: asked?.name ?? null, name } })}
      />
    </>
  );
}
