"""A music player: artists, tracks, playlists and the queue of a family account."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

# Slots, rows and requests read best as lists, on as few lines as they need.
# fmt: off
PERCENT = {"minimum": 0, "maximum": 100}
ArtistId = Annotated[str, Slot("artist_id", "artist id", "艺人编号", "id", entity="artists")]
TrackId = Annotated[str, Slot("track_id", "track id", "曲目编号", "id", entity="tracks")]
PlaylistId = Annotated[str,
                       Slot("playlist_id", "playlist id", "歌单编号", "id", entity="playlists")]
ToId = Slot("to_playlist_id", "target playlist id", "目标歌单编号", "id", entity="playlists")
ToPlaylistId = Annotated[str, ToId]
QueueId = Annotated[str,
                    Slot("queue_id", "queue entry id", "播放队列条目编号", "id", entity="queue")]
Artist = Annotated[str, Slot("artist", "name of the artist", "艺人名称")]
Genre = Annotated[Literal["jazz", "rock", "folk", "electronic", "classical", "hip_hop"],
                  Slot("genre", "genre", "曲风")]
Track = Annotated[str, Slot("track", "title of the track", "曲名")]
Playlist = Annotated[str, Slot("playlist", "name of the playlist", "歌单名称")]
NewPlaylist = Annotated[str, Slot("new_playlist", "name of the new playlist", "新歌单名称")]
Shared = Annotated[bool, Slot("shared", "whether the family sees it", "是否与家人共享")]
Spot = Annotated[Literal["next", "last"], Slot("spot", "place in the queue", "在队列中的位置")]
Percent = Annotated[int, Slot("percent", "volume in percent", "音量（百分比）", schema=PERCENT)]
SpeakerId = Annotated[str, Slot("speaker_id", "speaker id", "音箱编号", "id", entity="speakers")]
Speaker = Annotated[str, Slot("speaker", "name of the speaker", "音箱名称")]


@dataclass(frozen=True, slots=True)
class ArtistRow:
    """Somebody who makes music."""
    id: ArtistId
    artist: Artist
    genre: Genre
    followed: bool = False


@dataclass(frozen=True, slots=True)
class TrackRow:
    """A song."""
    id: TrackId
    track: Track
    artist: Artist
    artist_id: ArtistId
    seconds: int
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class PlaylistRow:
    """Songs in an order; one that is locked belongs to somebody else."""
    id: PlaylistId
    playlist: Playlist
    shared: bool
    locked: bool
    track_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A song that will be played."""
    id: QueueId
    track_id: TrackId
    track: Track
    position: int


@dataclass(frozen=True, slots=True)
class SpeakerRow:
    """Where it sounds."""
    id: SpeakerId
    speaker: Speaker
    percent: int


@dataclass(slots=True)
class Player(World):
    """Everything there is."""
    artists: dict[str, ArtistRow] = field(default_factory=dict[str, ArtistRow])
    tracks: dict[str, TrackRow] = field(default_factory=dict[str, TrackRow])
    playlists: dict[str, PlaylistRow] = field(default_factory=dict[str, PlaylistRow])
    queue: dict[str, QueueRow] = field(default_factory=dict[str, QueueRow])
    speakers: dict[str, SpeakerRow] = field(default_factory=dict[str, SpeakerRow])


BANDS = ("Velvet Harbor", "Los Faroles", "Iron Petals", "The Slow Ferry", "Nkembe Trio",
         "Halcyon Drive", "Miss Tangerine", "Orkester Nord", "Saffron Choir", "野火乐队")
HEADS = ("Paper", "Midnight", "Silver", "Running", "Broken", "Electric", "Summer", "Hollow",
         "Golden", "Distant", "Velvet", "Crooked")
TAILS = ("Skyline", "Thunder", "Promise", "Carousel", "Lanterns", "Horizon", "Satellite", "Mirror",
         "Avenue", "Feather", "Radio", "Dust")
CHINESE_SONGS = ("晚风", "旧车站", "雨后的街", "远方来信", "星期天早晨")
LISTS = ("Morning Run", "Deep Focus", "Kitchen Party", "Road Trip", "Rainy Sunday", "Sleepy Time",
         "Dinner Jazz", "周末清晨", "Study Beats", "Gym Hits")
PLACES = ("Kitchen", "Living Room", "Bedroom", "Terrace", "Office", "Bathroom")
SPOTS: dict[Spot, tuple[str, str]] = {"next": ("next", "下一首"), "last": ("at the end", "最后")}
QUEUE_LIMIT = 6


def seed(rng: Random) -> Player:
    """Make a small collection; a title sometimes belongs to two artists."""
    world = Player(f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} 19:{rng.randint(10, 59)}")
    for band in rng.sample(BANDS, 6):
        key = new_id(world.artists, "A", band)
        world.artists[key] = ArtistRow(key, band, rng.choice(("jazz", "rock", "folk")),
                                       rng.random() < 0.3)
    titles = [f"{head} {rng.choice(TAILS)}" for head in rng.sample(HEADS, 10)]
    titles += [*rng.sample(CHINESE_SONGS, 2), *rng.sample(titles[2:4], rng.randint(0, 2))]
    for number, title in enumerate(titles):
        artist = list(world.artists.values())[number % 6]
        key = new_id(world.tracks, "T", title, artist.id)
        facts = (title, artist.artist, artist.id, rng.randint(95, 420), number % 5 == 4)
        world.tracks[key] = TrackRow(key, *facts)
    clean = [one.id for one in world.tracks.values() if not one.explicit]
    for number, name in enumerate(rng.sample(LISTS, 5)):
        key = new_id(world.playlists, "L", name)
        some, shared = tuple(rng.sample(clean, rng.randint(2, 5))), rng.random() < 0.5
        world.playlists[key] = PlaylistRow(key, name, shared, number == 4, some)
    for track_id in rng.sample(clean, 3):
        _append(world, world.tracks[track_id])
    for name in rng.sample(PLACES, 3):
        key = new_id(world.speakers, "S", name)
        world.speakers[key] = SpeakerRow(key, name, rng.randint(1, 9) * 10)
    return world


def _append(world: Player, track: TrackRow) -> QueueRow:
    key = new_id(world.queue, "Q", track.id)
    world.queue[key] = QueueRow(key, track.id, track.track, len(world.queue) + 1)
    return world.queue[key]


def _editable(world: Player, playlist_id: str) -> PlaylistRow:
    playlist = find(world.playlists, playlist_id, "playlist")
    check(not playlist.locked, "locked", "This playlist belongs to somebody else.")
    return playlist


# --- tools ---------------------------------------------------------------------------------------


@tool("Find artists by name, genre, or both.", "按名称、曲风或两者查找艺人。")
def find_artists(world: Player, artist: Artist | None = None, genre: Genre | None = None
                 ) -> list[ArtistRow]:
    """Return at most five."""
    return [one for one in world.artists.values() if has(artist, one.artist)
            and same(genre, one.genre)][:5]


@tool("Find tracks by title, artist, or both.", "按曲名、艺人或两者查找曲目。")
def find_tracks(world: Player, track: Track | None = None, artist_id: ArtistId | None = None
                ) -> list[TrackRow]:
    """Return at most five."""
    return [one for one in world.tracks.values() if has(track, one.track)
            and same(artist_id, one.artist_id)][:5]


@tool("Find playlists by name.", "按名称查找歌单。")
def find_playlists(world: Player, playlist: Playlist) -> list[PlaylistRow]:
    """Return at most five."""
    return [one for one in world.playlists.values() if has(playlist, one.playlist)][:5]


@tool("Work out how many tracks a playlist has and how many seconds it lasts.",
      "计算歌单的曲目数和总时长（秒）。", errors=("not_found",))
def measure_playlist(world: Player, playlist_id: PlaylistId) -> dict[str, int]:
    """Return count and length."""
    keys = find(world.playlists, playlist_id, "playlist").track_ids
    return {"tracks": len(keys), "seconds": sum(world.tracks[key].seconds for key in keys)}


@tool("Show what will be played, in order.", "按顺序查看播放队列。")
def show_queue(world: Player) -> list[QueueRow]:
    """Return the first five."""
    return sorted(world.queue.values(), key=lambda one: one.position)[:5]


@tool("List the speakers.", "列出音箱。")
def list_speakers(world: Player) -> list[SpeakerRow]:
    """Return all of them."""
    return list(world.speakers.values())


@tool("Put a track into the queue, as the next or the last.",
      "把曲目加入播放队列，作为下一首或最后一首。", writes=True,
      errors=("not_found", "already_queued", "queue_full"))
def queue_track(world: Player, track_id: TrackId, spot: Spot = "last") -> QueueRow:
    """Play a track later."""
    track = find(world.tracks, track_id, "track")
    queued = {one.track_id for one in world.queue.values()}
    check(track_id not in queued, "already_queued", "This track is in the queue already.")
    check(len(queued) < QUEUE_LIMIT, "queue_full", f"The queue holds {QUEUE_LIMIT} tracks.")
    row = _append(world, track)
    if spot == "next":
        world.queue = {key: replace(one, position=one.position % len(world.queue) + 1)
                       for key, one in world.queue.items()}
    return world.queue[row.id]


@tool("Take an entry out of the queue.", "从播放队列中移除一项。", writes=True,
      errors=("not_found",))
def skip_entry(world: Player, queue_id: QueueId) -> QueueRow:
    """Do not play a track."""
    gone = find(world.queue, queue_id, "queue entry")
    world.queue = {key: replace(one, position=one.position - (one.position > gone.position))
                   for key, one in world.queue.items() if key != queue_id}
    return gone


@tool("Make an empty playlist. Returns it.", "新建一个空歌单，返回该歌单。", writes=True,
      errors=("name_taken",))
def make_playlist(world: Player, new_playlist: NewPlaylist, shared: Shared = False) -> PlaylistRow:
    """Add a playlist."""
    taken = {one.playlist for one in world.playlists.values()}
    check(new_playlist not in taken, "name_taken", "There is a playlist of this name.")
    key = new_id(world.playlists, "L", new_playlist)
    world.playlists[key] = PlaylistRow(key, new_playlist, shared, False)
    return world.playlists[key]


@tool("Add a track to the end of a playlist.", "把曲目加到歌单末尾。", writes=True,
      errors=("not_found", "locked", "already_in_playlist"))
def add_track(world: Player, playlist_id: PlaylistId, track_id: TrackId) -> PlaylistRow:
    """Put a track into a playlist."""
    playlist, track = _editable(world, playlist_id), find(world.tracks, track_id, "track")
    check(track.id not in playlist.track_ids, "already_in_playlist", "The track is in it already.")
    world.playlists[playlist_id] = replace(playlist, track_ids=(*playlist.track_ids, track.id))
    return world.playlists[playlist_id]


@tool("Move a track from one playlist to another.", "把曲目从一个歌单移到另一个歌单。", writes=True,
      errors=("not_found", "locked", "not_in_playlist", "already_in_playlist"))
def move_track(world: Player, track_id: TrackId, playlist_id: PlaylistId,
               to_playlist_id: ToPlaylistId) -> PlaylistRow:
    """Take a track out here and put it in there."""
    source = _editable(world, playlist_id)
    check(track_id in source.track_ids, "not_in_playlist", f"It is not in {source.playlist}.")
    target = add_track.run(world, to_playlist_id, track_id)
    kept = tuple(key for key in source.track_ids if key != track_id)
    world.playlists[playlist_id] = replace(source, track_ids=kept)
    return target


@tool("Rename a playlist.", "重命名歌单。", writes=True,
      errors=("not_found", "locked", "name_taken"))
def rename_playlist(world: Player, playlist_id: PlaylistId, new_playlist: NewPlaylist
                    ) -> PlaylistRow:
    """Give a playlist another name."""
    playlist = _editable(world, playlist_id)
    taken = {one.playlist for one in world.playlists.values()}
    check(new_playlist not in taken, "name_taken", "There is a playlist of this name.")
    world.playlists[playlist_id] = replace(playlist, playlist=new_playlist)
    return world.playlists[playlist_id]


@tool("Follow an artist or stop following.", "关注或取消关注艺人。", writes=True,
      errors=("not_found",))
def follow_artist(world: Player, artist_id: ArtistId,
                  follow: Annotated[bool, Slot("follow", "whether to follow", "是否关注")] = True
                  ) -> ArtistRow:
    """Say whether to hear of an artist's news."""
    artist = find(world.artists, artist_id, "artist")
    world.artists[artist_id] = replace(artist, followed=follow)
    return world.artists[artist_id]


@tool("Set the volume of a speaker.", "设置音箱的音量。", writes=True, errors=("not_found",))
def turn_volume(world: Player, speaker_id: SpeakerId, percent: Percent) -> SpeakerRow:
    """Make it louder or quieter."""
    speaker = find(world.speakers, speaker_id, "speaker")
    world.speakers[speaker_id] = replace(speaker, percent=percent)
    return world.speakers[speaker_id]


# --- what users want -----------------------------------------------------------------------------


def _track(world: Player, rng: Random, queued: bool = False, explicit: bool = False) -> TrackRow:
    waiting = {one.track_id for one in world.queue.values()}
    found = [one for one in world.tracks.values() if one.explicit == explicit]
    return rng.choice([one for one in found if (one.id in waiting) == queued])


def _list(world: Player, rng: Random, locked: bool = False) -> PlaylistRow:
    return rng.choice([one for one in world.playlists.values() if one.locked == locked])


def _adding(track: TrackRow, playlist: PlaylistRow) -> Goal:
    call = Call("add_track", {"playlist_id": playlist.id, "track_id": track.id})
    return Goal((call,), told(track=track.track, playlist=playlist.playlist),
                told(artist=track.artist))


def _new_name(world: Player, rng: Random) -> str:
    taken = {one.playlist for one in world.playlists.values()}
    return rng.choice([name for name in LISTS if name not in taken])


PLAY_EN = ("Play {track} {spot}, please.", "Could you queue {track}[? Put it {spot}].",
           "I feel like hearing {track}. Line it up {spot}.")
PLAY_ZH = ("把{track}加到队列，放在{spot}。", "想听{track}，排进队列[，放{spot}]。")


@intent(
    en=PLAY_EN, zh=PLAY_ZH,
    reply_en=("{track} is number {result.position} in the queue.",),
    reply_zh=("{track}已排在队列第 {result.position} 位。",),
)
def line_up(world: Player, rng: Random) -> Goal:
    """Queue a track."""
    return _queueing(rng, _track(world, rng))


def _queueing(rng: Random, track: TrackRow) -> Goal:
    spot = rng.choice(list(SPOTS))
    call = Call("queue_track", {"track_id": track.id, "spot": spot})
    facts = told(track=track.track, spot=Fact("spot", spot, SPOTS[spot]))
    return Goal((call,), facts, told(artist=track.artist))


@intent(
    en=("Not {track} again, take it off the queue.", "Skip {track} when it comes."),
    zh=("{track}不想听了，从队列里去掉。", "跳过队列里的{track}。"),
    reply_en=("{track} won't be played.",), reply_zh=("{track}已从队列移除。",),
)
def skip(world: Player, rng: Random) -> Goal:
    """Take a track out of the queue."""
    entry = rng.choice(list(world.queue.values()))
    return Goal((Call("skip_entry", {"queue_id": entry.id}),), told(track=entry.track))


SAVE_EN = ("{track} belongs in {playlist}.", "Add {track} to my {playlist} list.",
           "Could you save {track} to a playlist[? I mean {playlist}].")
SAVE_ZH = ("把{track}加到歌单{playlist}。", "收藏{track}[，放进{playlist}]。")


@intent(
    en=SAVE_EN, zh=SAVE_ZH,
    reply_en=("{track} is in {playlist} now.",), reply_zh=("{track}已加入歌单{playlist}。",),
)
def save(world: Player, rng: Random) -> Goal | None:
    """Put a track into a playlist."""
    track, playlist = _track(world, rng), _list(world, rng)
    return None if track.id in playlist.track_ids else _adding(track, playlist)


@intent(
    en=("Move {track} from {playlist} over to {target}.",
        "{track} doesn't fit {playlist}, it should be in {target} instead.",
        "Take {track} out of {playlist} and into {target}."),
    zh=("把{track}从{playlist}移到{target}。", "{track}不适合{playlist}，换到{target}里。"),
    reply_en=("{track} moved from {playlist} to {target}.",),
    reply_zh=("{track}已从{playlist}移到{target}。",),
)
def sort_out(world: Player, rng: Random) -> Goal | None:
    """Move a track between playlists."""
    source, target = rng.sample([one for one in world.playlists.values() if not one.locked], 2)
    keys = [key for key in source.track_ids if key not in target.track_ids]
    if not keys:
        return None
    track = world.tracks[rng.choice(keys)]
    call = Call("move_track",
                {"track_id": track.id, "playlist_id": source.id, "to_playlist_id": target.id})
    facts = told(track=track.track, playlist=source.playlist,
                 target=Fact("playlist", target.playlist))
    return Goal((call,), facts, told(artist=track.artist))


@intent(
    en=("Start a playlist {new_playlist} with {track} as its first song.",
        "I want a new list, {new_playlist}. First track: {track}.",
        "Make {new_playlist} and drop {track} in."),
    zh=("新建歌单{new_playlist}，先放一首{track}。",
        "建一个叫{new_playlist}的歌单，把{track}放进去。"),
    reply_en=("{new_playlist} is there, with {track}.",),
    reply_zh=("歌单{new_playlist}已建好，里面有{track}。",),
)
def begin_list(world: Player, rng: Random) -> Goal:
    """Make a playlist and fill it."""
    name, track = _new_name(world, rng), _track(world, rng)
    key = new_id(world.playlists, "L", name)
    calls = (Call("make_playlist", {"new_playlist": name}),
             Call("add_track", {"playlist_id": key, "track_id": track.id}))
    return Goal(calls, told(new_playlist=name, track=track.track), told(artist=track.artist))


@intent(
    en=("{playlist} needs a better name: {new_playlist}.",
        "Rename my {playlist} list[ to {new_playlist}]."),
    zh=("把歌单{playlist}改名为{new_playlist}。", "{playlist}换个名字[，叫{new_playlist}]。"),
    reply_en=("{playlist} is called {new_playlist} now.",),
    reply_zh=("歌单{playlist}已改名为{new_playlist}。",),
)
def rename(world: Player, rng: Random) -> Goal:
    """Rename a playlist."""
    playlist, name = _list(world, rng), _new_name(world, rng)
    call = Call("rename_playlist", {"playlist_id": playlist.id, "new_playlist": name})
    return Goal((call,), told(playlist=playlist.playlist, new_playlist=name))


@intent(
    en=("I'd like news of {artist}.", "Follow {artist} for me.",
        "{artist} is great, keep me posted about them."),
    zh=("关注一下{artist}。", "我喜欢{artist}，帮我关注。"),
    reply_en=("You follow {artist} now.",), reply_zh=("已关注{artist}。",),
)
def follow(world: Player, rng: Random) -> Goal | None:
    """Follow an artist."""
    artist = rng.choice(list(world.artists.values()))
    call = Call("follow_artist", {"artist_id": artist.id})
    return None if artist.followed else Goal((call,), told(artist=artist.artist))


@intent(
    en=("Turn the {speaker} to {percent} percent.",
        "The {speaker} speaker is wrong, I want {percent}%.",
        "Change the volume of the {speaker} speaker[: {percent} percent]."),
    zh=("把{speaker}的音量调到{percent}%。", "{speaker}音箱的音量调一下[，{percent}%]。"),
    reply_en=("{speaker} plays at {percent} percent.",),
    reply_zh=("{speaker}的音量已调到 {percent}%。",),
)
def turn(world: Player, rng: Random) -> Goal:
    """Set a volume."""
    speaker, percent = rng.choice(list(world.speakers.values())), rng.randint(0, 9) * 10 + 5
    call = Call("turn_volume", {"speaker_id": speaker.id, "percent": percent})
    return Goal((call,), told(speaker=speaker.speaker, percent=percent))


@intent(
    en=("How long is {playlist}, and how many songs does it have?",
        "Is {playlist} long enough for dinner? Tell me tracks and seconds."),
    zh=("{playlist}有多少首歌、多长？", "歌单{playlist}一共几首，多少秒？"),
    reply_en=("{playlist} has {result.tracks} tracks and lasts {result.seconds} seconds.",),
    reply_zh=("{playlist}有 {result.tracks} 首，共 {result.seconds} 秒。",),
)
def ask_length(world: Player, rng: Random) -> Goal:
    """Learn how long a playlist is."""
    playlist = _list(world, rng, rng.random() < 0.2)
    return Goal((Call("measure_playlist", {"playlist_id": playlist.id}),),
                told(playlist=playlist.playlist))


@intent(
    en=("What do you have by {artist}?", "Which songs are from {artist}?",
        "List tracks of {artist}."), zh=("{artist}有哪些歌？", "列出{artist}的曲目。"),
    reply_en=("By {artist} there are {count}: {rows.track}.",),
    reply_zh=("{artist}有{count}首：{rows.track}。",),
)
def ask_songs(world: Player, rng: Random) -> Goal:
    """Learn what an artist made."""
    artist = world.artists[_track(world, rng).artist_id]
    return Goal((Call("find_tracks", {"artist_id": artist.id}),), told(artist=artist.artist))


@intent(
    en=PLAY_EN, zh=PLAY_ZH,
    reply_en=("{track} is in the queue already.",), reply_zh=("{track}已经在队列里了。",),
    kind="fails",
)
def line_up_twice(world: Player, rng: Random) -> Goal:
    """Queue a track that waits."""
    return _queueing(rng, _track(world, rng, queued=True))


@intent(
    en=SAVE_EN, zh=SAVE_ZH,
    reply_en=("{playlist} belongs to somebody else, so I can't add {track}.",),
    reply_zh=("{playlist}是别人的歌单，无法添加{track}。",), kind="fails",
)
def save_elsewhere(world: Player, rng: Random) -> Goal:
    """Change a playlist of somebody else."""
    return _adding(_track(world, rng), _list(world, rng, locked=True))


@intent(
    en=PLAY_EN, zh=PLAY_ZH,
    reply_en=("{track} is marked as explicit, and this family account doesn't play that.",),
    reply_zh=("{track}被标为限制级，这个家庭账户不能播放。",), kind="policy",
)
def play_explicit(world: Player, rng: Random) -> Goal:
    """Ask for a song that is not for everybody."""
    track = _track(world, rng, explicit=True)
    look = Call("find_tracks", {"track": track.track})
    return replace(_queueing(rng, track), calls=(look,))


DOMAIN = domain_of(sys.modules[__name__], "the music player of a family", "一个家庭的音乐播放器",
                   seed, policies_en=("Never queue or add a track that is marked as explicit.",),
                   policies_zh=("不得播放或添加标记为限制级（explicit）的曲目。",))
