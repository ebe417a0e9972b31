// Names and words that the recordings are likely to hold.
import { Button, Group, Stack, Textarea } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { FormEvent } from "react";

import { api, data } from "../../api/client";
import { glossaryQuery } from "../../api/queries";
import { useWords } from "../../words";
import { failed, Section } from "./Section";

export function Glossary() {
  const { t } = useWords();
  const client = useQueryClient();
  const { data: found } = useQuery(glossaryQuery);
  const save = useMutation({
    mutationFn: (words: string) => data(api.PUT("/app/glossary", { body: { words } })),
    onSuccess: () => {
      notifications.show({ message: t.account.glossarySaved });
      return client.invalidateQueries({ queryKey: glossaryQuery.queryKey });
    },
    onError: failed,
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    save.mutate(String(new FormData(event.currentTarget).get("words")));
  };
  return (
    <Section title={t.account.glossary} hint={t.account.glossaryHint}>
      <form onSubmit={submit} key={found}>
        <Stack gap="sm">
          <Textarea
            name="words"
            aria-label={t.account.glossary}
            defaultValue={found ?? ""}
            placeholder={t.options.promptHint}
            autosize
            minRows={2}
            maxRows={8}
            maxLength={1000}
          />
          <Group>
            <Button type="submit" variant="default" loading={save.isPending}>
              {t.list.save}
            </Button>
          </Group>
        </Stack>
      </form>
    </Section>
  );
}
