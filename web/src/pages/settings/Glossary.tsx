// Names and words that the recordings are likely to hold.
import { Button, Group, Stack, Textarea } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { useChange } from "../../api/change";
import { api, data } from "../../api/client";
import { preferencesQuery } from "../../api/queries";
import { Form, Section } from "../../shell/Parts";
import { useWords } from "../../words";

export function Glossary() {
  const { t } = useWords();
  const { data: kept } = useQuery(preferencesQuery);
  const [typed, setTyped] = useState<string | null>(null); // it stays when another browser saves
  const save = useChange(
    (glossary: string) => data(api.PATCH("/app/preferences", { body: { glossary } })),
    [preferencesQuery.queryKey],
    () => {
      setTyped(null);
      notifications.show({ message: t.settings.glossarySaved });
    },
  );
  return (
    <Section title={t.settings.glossary} hint={t.settings.glossaryHint}>
      <Form onSend={() => save.mutate(typed ?? kept?.glossary ?? "")}>
        <Stack gap="sm">
          <Textarea
            aria-label={t.settings.glossary}
            value={typed ?? kept?.glossary ?? ""}
            onChange={(event) => setTyped(event.currentTarget.value)}
            placeholder={t.options.promptHint}
            autosize
            minRows={2}
            maxRows={8}
            maxLength={1000}
          />
          <Group><Button type="submit" variant="default" loading={save.isPending}>{t.list.save}</Button></Group>
        </Stack>
      </Form>
    </Section>
  );
}
