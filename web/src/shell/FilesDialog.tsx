// Which formats are wanted of one transcription or of many, and how long lines of subtitles are.
import { Button, Checkbox, Group, Modal, Select, SimpleGrid, Stack } from "@mantine/core";
import { useLocalStorage } from "@mantine/hooks";
import { IconDownload } from "@tabler/icons-react";

import { address } from "../api/client";
import { useWords } from "../words";
import { filesPath, LETTERS, useLetters } from "./files";

const USUAL = ["txt", "srt", "vtt", "docx"];

/** This browser remembers what is chosen. */
export function FilesDialog({ ids, title, opened, onClose }: {
  ids: readonly string[];
  title: string;
  opened: boolean;
  onClose: () => void;
}) {
  const { t } = useWords();
  const [chosen, choose] = useLocalStorage({ key: "export-formats", defaultValue: USUAL });
  const formats = Object.entries(t.reader.formats);
  const [letters, setLetters] = useLetters();
  return (
    <Modal opened={opened} onClose={onClose} size="lg" title={title}>
      <Stack>
        <Checkbox.Group value={chosen} onChange={choose} aria-label={title}>
          <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="sm">
            {formats.map(([format, name]) => <Checkbox key={format} value={format} label={name} />)}
          </SimpleGrid>
        </Checkbox.Group>
        <Select
          label={t.edit.subtitles}
          value={String(letters)}
          allowDeselect={false}
          onChange={(value) => setLetters(Number(value))}
          data={LETTERS.map((one) => ({ value: String(one), label: one ? t.edit.lettersALine(one) : t.edit.anyLength }))}
        />
        <Group justify="space-between">
          <Button variant="subtle" onClick={() => choose(chosen.length < formats.length ? formats.map(([format]) => format) : [])}>
            {chosen.length < formats.length ? t.reader.allFormats : t.reader.noFormats}
          </Button>
          <Button
            component="a"
            href={address(filesPath(ids, chosen, letters))}
            download
            leftSection={<IconDownload size={17} aria-hidden />}
            disabled={!chosen.length}
            onClick={onClose}
          >
            {t.reader.files(ids.length * chosen.length)}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
