// What goes with correcting, above the text: undo, versions, how long subtitles may be, whether all is saved, conflicts.
import { ActionIcon, Alert, Button, Group, Menu, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconArrowBackUp, IconArrowForwardUp, IconCheck, IconCloudOff, IconDots, IconHistory, IconLoader2, IconTag, IconUsers } from "@tabler/icons-react";

import { LETTERS } from "../../shell/files";
import { Facts, NameDialog, Small } from "../../shell/Parts";
import { clock, useNow, useWords } from "../../words";
import { said } from "./corrections";
import style from "./Editor.module.css";
import { api, data } from "../../api/client";
import type { Correcting } from "./useCorrections";

export function UndoButtons({ correcting, onUndo }: { correcting: Correcting; onUndo: (redo: boolean) => void }) {
  const { t } = useWords();
  const { view } = correcting;
  return (
    <Button.Group>
      <Button variant="default" px="xs" aria-label={t.list.undo} disabled={!view?.undo} onClick={() => onUndo(false)}>
        <IconArrowBackUp size={18} />
      </Button>
      <Button variant="default" px="xs" aria-label={t.edit.redo} disabled={!view?.redo} onClick={() => onUndo(true)}>
        <IconArrowForwardUp size={18} />
      </Button>
    </Button.Group>
  );
}

export function Saved({ correcting }: { correcting: Correcting }) {
  const { t } = useWords();
  const { saving, view, conflicts } = correcting;
  if (saving === "saved" && (conflicts.length || !view?.number)) return null; // a conflict waits for its answer
  const Icon = { saved: IconCheck, saving: IconLoader2, unsaved: IconCloudOff }[saving];
  return (
    <Text size="sm" c={saving === "unsaved" ? "var(--mantine-color-error)" : "dimmed"} role="status" className={style.saved}>
      <Icon size={15} aria-hidden /> {t.edit.saving[saving]}
    </Text>
  );
}

export function MoreMenu({ id, correcting, letters, onLetters, onSpeakers }: {
  id: string;
  correcting: Correcting;
  letters: number;
  onLetters: (letters: number) => void;
  onSpeakers: () => void;
}) {
  const { t, ago } = useWords();
  const now = useNow(60);
  const [naming, names] = useDisclosure(false);
  const { view, corrections } = correcting;
  const number = view?.number ?? 0;
  const backTo = (to: number) => void corrections.change({ back_to: to });
  const name = (wanted: string) =>
    void data(
      api.PUT("/api/transcriptions/{transcription_id}/edits/{number}/name", {
        params: { path: { transcription_id: id, number } },
        body: { name: wanted },
      }),
    );
  return (
    <>
      <Menu position="bottom-end" width={290}>
        <Menu.Target>
          <ActionIcon variant="default" size={36} aria-label={t.edit.more}><IconDots size={18} /></ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<IconUsers size={16} aria-hidden />} onClick={onSpeakers}>
            {t.edit.speakers}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Label>{t.edit.versions}</Menu.Label>
          <Menu.Item leftSection={<IconTag size={16} aria-hidden />} disabled={!number} onClick={names.open}>
            {t.edit.nameVersion}
          </Menu.Item>
          {[...(view?.versions ?? [])].reverse().map((version) => (
            <Menu.Item
              key={version.number}
              leftSection={<IconHistory size={16} aria-hidden />}
              disabled={version.number === number}
              onClick={() => backTo(version.number)}
            >
              {t.edit.backTo(version.name)}
              <Text size="xs" c="dimmed">{version.author}, {ago(now - version.at)}</Text>
            </Menu.Item>
          ))}
          <Menu.Item leftSection={<IconHistory size={16} aria-hidden />} disabled={!number} onClick={() => backTo(0)}>
            {t.edit.machinesText}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Label>{t.edit.subtitles}</Menu.Label>
          <Menu.RadioGroup value={String(letters)} onChange={(value) => onLetters(Number(value))}>
            {LETTERS.map((one) => (
              <Menu.RadioItem key={one} value={String(one)}>
                {one ? t.edit.lettersALine(one) : t.edit.anyLength}
              </Menu.RadioItem>
            ))}
          </Menu.RadioGroup>
        </Menu.Dropdown>
      </Menu>
      <NameDialog title={t.edit.nameVersion} label={t.edit.versionName} given="" opened={naming} onClose={names.close} onName={name} />
    </>
  );
}

/** Both texts of each conflict; the page shows theirs until somebody chooses. */
export function Conflicts({ correcting, onShow }: { correcting: Correcting; onShow: (seconds: number) => void }) {
  const { t } = useWords();
  const { conflicts, corrections } = correcting;
  if (!conflicts.length) return null;
  return (
    <div className={style.conflicts}>
      {conflicts.map((conflict) => (
        <Alert key={conflict.id} color="orange" variant="outline" title={t.edit.conflict(clock(conflict.mine.start))} role="alert">
          <Facts
            look={style.both}
            facts={[
              [t.edit.yours, said(conflict.mine.segments ?? []) || t.edit.machinesText],
              [t.edit.theirs, conflict.theirs || t.edit.removed],
            ]}
          />
          <Group gap="xs">
            <Small variant="filled" label={t.edit.keepYours} onClick={() => corrections.settle(conflict, true)} />
            <Small variant="default" label={t.edit.keepTheirs} onClick={() => corrections.settle(conflict, false)} />
            <Small label={t.edit.showIt} onClick={() => onShow(conflict.mine.start)} />
          </Group>
        </Alert>
      ))}
    </div>
  );
}
