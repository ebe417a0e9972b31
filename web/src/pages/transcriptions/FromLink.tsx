// A recording that is on the web already: the farm fetches it.
import { ActionIcon, TextInput } from "@mantine/core";
import { IconLink, IconPlus } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { api, data } from "../../api/client";
import type { Submission } from "../../api/schema";
import { useWords } from "../../words";
import type { Choice } from "./uploads";

const nameOf = (url: string) => {
  const { pathname, hostname } = new URL(url);
  const last = pathname.split("/").filter(Boolean).pop() ?? hostname;
  try {
    return decodeURIComponent(last).slice(-255);
  } catch {
    return last.slice(-255);
  }
};

export function FromLink({ choice }: { choice: () => Choice }) {
  const { t } = useWords();
  const [url, setUrl] = useState("");
  const queries = useQueryClient();
  const submit = useMutation({
    mutationFn: () =>
      data(api.POST("/api/transcriptions", { body: { name: nameOf(url), url, ...choice() } as Submission })),
    onSuccess: () => {
      setUrl("");
      return queries.invalidateQueries({ queryKey: ["transcriptions"] });
    },
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    submit.mutate();
  };
  return (
    <form onSubmit={send}>
      <TextInput
        type="url"
        required
        aria-label={t.list.link}
        placeholder={t.list.link}
        leftSection={<IconLink size={18} aria-hidden />}
        rightSection={
          <ActionIcon type="submit" variant="subtle" aria-label={t.list.fetch} loading={submit.isPending}>
            <IconPlus size={18} aria-hidden />
          </ActionIcon>
        }
        value={url}
        error={submit.error?.message}
        onChange={(event) => setUrl(event.currentTarget.value)}
      />
    </form>
  );
}
