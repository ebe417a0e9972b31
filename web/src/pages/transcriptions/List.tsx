// The list of transcriptions, sorted and filtered by the server, and a search in everything that was said.
import { ActionIcon, Anchor, Button, Group, Highlight, Loader, SegmentedControl, Select, Stack, Text, TextInput, Title } from "@mantine/core";
import { useDebouncedCallback, useDisclosure } from "@mantine/hooks";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { IconDownload, IconSearch } from "@tabler/icons-react";
import { type ReactNode, useEffect, useRef, useState } from "react";

import { ACTIVE, feedsQuery, hasTranscript, listQuery, type Order, searchQuery, type State } from "../../api/queries";
import { isFatal, Problem } from "../../shell/Failed";
import { FilesDialog } from "../../shell/FilesDialog";
import { MOST_PACKED } from "../../shell/files";
import { clock, useWords } from "../../words";
import { useRemoved } from "./removal";
import { Row } from "./Row";
import style from "./Transcriptions.module.css";

const STATES = {
  all: [],
  active: ACTIVE,
  done: ["done", "incomplete"],
  problem: ["failed", "cancelled", "incomplete"],
} as const satisfies Record<string, readonly State[]>;
const ORDERS = ["newest", "oldest", "name", "longest"] as const satisfies readonly Order[];
const TYPING_MS = 250;

/** What is chosen; it is in the address, so that it is there again when somebody comes back. */
export interface Wanted {
  readonly words?: string;
  readonly state?: keyof typeof STATES;
  readonly order?: Order;
  readonly feed?: string;
}

export function wantedOf(search: Record<string, unknown>): Wanted {
  const { words, state, order, feed } = search;
  return {
    ...(typeof words === "string" && words ? { words: words.slice(0, 200) } : {}),
    ...(typeof state === "string" && state in STATES ? { state: state as keyof typeof STATES } : {}),
    ...(ORDERS.some((one) => one === order) ? { order: order as Order } : {}),
    ...(typeof feed === "string" && feed ? { feed } : {}),
  };
}

export function List({ empty }: { empty: ReactNode }) {
  const { t } = useWords();
  const wanted = useSearch({ from: "/shell/" });
  const { words = "", state = "all", order = "newest", feed = null } = wanted;
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(listQuery(STATES[state], words, order, feed));
  const removed = useRemoved();
  if (isFatal(error, data)) return <Problem error={error} />;
  if (!data) return <Loader aria-label={t.loading} />;
  const shown = data.pages.flatMap((page) => page.transcriptions).filter((one) => !removed.has(one.id));
  if (shown.length === 0 && state === "all" && !words && !feed) return empty;
  return (
    <Stack gap="sm">
      {feed && <Chosen feed={feed} />}
      <Filters wanted={wanted} written={shown.filter(hasTranscript).map(({ id }) => id).slice(0, MOST_PACKED)} />
      <ul className={style.list} aria-label={t.nav.transcriptions}>{shown.map((one) => <Row key={one.id} one={one} />)}</ul>
      {shown.length === 0 && <Text c="dimmed">{words ? t.list.noName : t.list.none}</Text>}
      {hasNextPage && (
        <Button variant="default" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
          {t.list.more}
        </Button>
      )}
      {words && <Said words={words} feed={feed} />}
      <Text size="sm" c="dimmed" className={style.hint}>{t.list.dropHere}</Text>
    </Stack>
  );
}

/** The podcast to whose episodes the list is held, and the way to all the rest. */
function Chosen({ feed }: { feed: string }) {
  const { t } = useWords();
  const { data } = useQuery(feedsQuery);
  const one = data?.feeds.find(({ id }) => id === feed);
  return (
    <Group gap="xs">
      <Text span dir="auto">{t.feeds.chosen(one?.title || one?.url || feed)}</Text>
      <Anchor component={Link} to="/">{t.reader.backToList}</Anchor>
    </Group>
  );
}

function Filters({ wanted, written }: { wanted: Wanted; written: readonly string[] }) {
  const { t } = useWords();
  const [exporting, files] = useDisclosure(false);
  const navigate = useNavigate();
  const { words: asked = "" } = wanted;
  const [typed, setTyped] = useState(asked);
  const sent = useRef(asked);
  useEffect(() => {
    if (sent.current !== asked) setTyped((sent.current = asked)); // by the address, not by typing
  }, [asked]);
  const choose = (change: Wanted) =>
    void navigate({ to: "/", search: (before) => wantedOf({ ...before, ...change }), replace: true });
  const search = useDebouncedCallback((words: string) => choose({ words: (sent.current = words) }), TYPING_MS);
  return (
    <Group gap="sm" className={style.filters}>
      <TextInput
        className={style.search}
        type="search"
        aria-label={t.list.search}
        placeholder={t.list.search}
        leftSection={<IconSearch size={16} aria-hidden />}
        maxLength={200}
        value={typed}
        onChange={(event) => {
          setTyped(event.currentTarget.value);
          search(event.currentTarget.value.trim());
        }}
      />
      <SegmentedControl
        size="sm"
        aria-label={t.nav.transcriptions}
        value={wanted.state ?? "all"}
        onChange={(state) => choose({ state })}
        data={(Object.keys(STATES) as (keyof typeof STATES)[]).map((value) => ({ value, label: t.list.states[value] }))}
      />
      <Select
        className={style.order}
        aria-label={t.list.order}
        value={wanted.order ?? "newest"}
        allowDeselect={false}
        onChange={(order) => choose({ order: order ?? "newest" })}
        data={ORDERS.map((value) => ({ value, label: t.list.orders[value] }))}
      />
      <ActionIcon variant="default" size={36} disabled={!written.length} aria-label={t.list.export(written.length)} title={t.list.export(written.length)} onClick={files.open}>
        <IconDownload size={18} />
      </ActionIcon>
      <FilesDialog ids={written} title={t.list.export(written.length)} opened={exporting} onClose={files.close} />
    </Group>
  );
}

/** Where it was said. */
function Said({ words, feed }: { words: string; feed: string | null }) {
  const { t } = useWords();
  const { data, error } = useQuery(searchQuery(words, feed));
  if (error) return <Problem error={error} />;
  const marked = words.replaceAll('"', " ").split(/\s+/).filter(Boolean);
  return (
    <section aria-label={t.list.said}>
      <Title order={2} mt="md" mb="xs">{t.list.said}</Title>
      {data?.length === 0 && <Text c="dimmed">{t.list.notSaid}</Text>}
      <ul className={style.list} aria-label={t.list.said}>
        {data?.map((hit) => (
          <li key={`${hit.transcription_id} ${hit.seconds}`} className={style.hit}>
            <Link
              to="/transcriptions/$id"
              params={{ id: hit.transcription_id }}
              search={{ t: Math.round(hit.seconds * 100) / 100 }}
              className={style.hitLink}
            >
              <Text span size="sm" c="dimmed" className={style.where}>
                {clock(hit.seconds)} · <bdi>{hit.name}</bdi>
              </Text>
              <Highlight highlight={marked} component="span" dir="auto" lineClamp={3}>{hit.text}</Highlight>
            </Link>
          </li>
        ))}
      </ul>
    </section>
  );
}
