"""Names and postal addresses, by words and context alone: help, not a guarantee.

No model: a name is a run of capitalised words after a title or words that introduce one, with a middle initial, before
what only people do, or that begins with a common given name; an address is a house number with words of a street, a
unit or a box. Measured in `docs/privacy.md`; what these miss is far more than what checksums miss, so they run only
where they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pilotfish.core.privacy import Finding

CONTEXT, WORDS = 0.5, 0.3


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\S+", text))


def _between_bars(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^|]+", text))


_CAPITAL = r"[A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u017e\u0391-\u03a9\u0410-\u042f]"
_WORD = rf"{_CAPITAL}[^\W\d_]{{0,40}}(?:[-'\u2019][^\W\d_]{{1,40}}){{0,3}}"
_RUN = re.compile(
    rf"{_WORD}(?: (?:{_CAPITAL}\. )?(?:(?:van|von|de|del|der|den|di|da|la|le|bin|al|el) ){{0,2}}{_WORD}){{0,3}}"
)
_TITLES = _words(
    "mr mrs ms miss mx dr prof professor sir madam lord lady herr frau monsieur madame mme mlle señor señora sr sra "
    "signor signora hr fr rev captain judge officer "
)
_INTRODUCED = _between_bars(
    "name is|name's|i am|i'm|i\u2019m|call me|dear|regards|sincerely|cheers|yours|signed|named|spoke to|spoke with|"
    "speak to|speak with|ask for|attn|attention|c/o|kid|son|daughter|wife|husband|brother|sister|mother|father|"
    "colleague|neighbour|neighbor|address of|it to|under|called|calls me|says|said|told|starring|directed by|"
    "founded by|written by|married to|assistant to"
)
"""One or two words before a name, in small letters and without a colon or comma at the end."""
_BEFORE = _TITLES | {"i'm", "i\u2019m"}
_LABELS = _between_bars(
    "name:|patient:|customer:|client:|employee:|sender:|recipient:|passenger:|author:|from:|to:|cc:|by:|address:|"
    "contact:"
)
_ACTS = re.compile(
    r"(?:'s|\u2019s)? (?:lives|lived|is living|works|worked|was born|grew up|died|married|had given|has given|"
    r"gave (?:me|him|her|us)|told (?:me|him|her|us)|called (?:me|him|her|us|back)|"
    r"said|says|wrote|writes|asked|replied)\b"
)
"""What people do and little else does, right after a name."""
_INITIAL = re.compile(rf"^{_WORD} {_CAPITAL}\. {_WORD}")
_ARTICLES = _words("the a an this that each every my your his her our their")
_LETTERED = _words(
    "appendix figure vitamin plan part section class type grade schedule exhibit option table hepatitis room gate"
)
_NO_NAMES = _words(
    "i a an the this that these those my your his her its our their we you he she it they is are was were be been do "
    "does did have has had can could will would shall should may might must not no yes and or but if then else when "
    "where who what which why how please thanks thank hello hi hey dear regards sincerely best kind good morning "
    "afternoon evening monday tuesday wednesday thursday friday saturday sunday january february march april june "
    "july august september october november december english french german spanish italian american british dutch "
    "swedish danish norwegian polish czech russian chinese japanese indian european bank card account street avenue "
    "road city state country company inc ltd llc gmbh corp order ticket invoice customer support service team python "
    "java api json http number date time new old in on at by for from of to with as about into over after before "
    "under see note error warning info debug true false none null classify answer write summarize translate system "
    "user assistant "
)
_GIVEN = _words(
    "james robert john michael david william richard joseph thomas charles christopher daniel matthew anthony mark "
    "donald steven andrew paul joshua kenneth kevin brian george timothy ronald edward jason jeffrey ryan jacob gary "
    "nicholas eric jonathan stephen larry justin scott brandon benjamin samuel gregory alexander patrick frank "
    "raymond jack dennis jerry tyler aaron jose adam nathan henry zachary douglas peter kyle noah ethan jeremy walter "
    "christian keith roger terry austin sean gerald carl harold dylan arthur lawrence jordan jesse bryan billy bruce "
    "gabriel joe logan alan juan albert willie elijah wayne randy vincent mason roy ralph bobby russell bradley "
    "philip eugene mary patricia jennifer linda elizabeth barbara susan jessica sarah karen lisa nancy betty sandra "
    "margaret ashley kimberly emily donna michelle carol amanda melissa deborah stephanie rebecca sharon laura "
    "cynthia dorothy amy kathleen angela shirley emma brenda pamela nicole anna samantha katherine christine debra "
    "rachel carolyn janet maria olivia heather helen catherine diane julie victoria joyce lauren kelly christina joan "
    "evelyn judith andrea hannah megan cheryl jacqueline martha madison teresa gloria sara janice ann kathryn abigail "
    "sophia frances jean alice judy isabella julia grace denise amber marilyn danielle beverly charlotte natalie "
    "theresa diana brittany doris kayla alexis lori tiffany hans klaus jürgen wolfgang heinz günter stefan andreas "
    "matthias uwe ralf jens jörg sven lars lukas jonas felix maximilian sabine petra ursula monika claudia katrin "
    "anja birgit heike greta ingrid helga pierre michel andré philippe alain bernard jacques françois nicolas laurent "
    "olivier thierry julien antoine camille chloé léa manon sylvie isabelle nathalie sophie céline amélie noelle "
    "marco giuseppe giovanni antonio luca francesco mario alessandro matteo giulia chiara francesca elena valentina "
    "paola carlos javier miguel luis alejandro fernando sergio pablo jorge diego raúl carmen lucía pilar dolores "
    "josefa isabel ana marta cristina joão pedro paulo rafael mateus beatriz inês sofia björn erik anders johan karl "
    "mikael olof gustav astrid karin birgitta kristina eva linnea emil magnus niels mette kirsten søren henrik mads "
    "rasmus kari ole knut pekka matti jukka aino marja jan piet willem hendrik anneke marieke saskia bas daan piotr "
    "krzysztof andrzej tomasz paweł katarzyna małgorzata agnieszka zofia jiří petr tomáš martin pavel jaroslava jana "
    "lenka miklós lászló istván zoltán gábor katalin zsuzsanna ivan dmitri sergei vladimir alexei nikolai mikhail "
    "boris tatiana natalia olga svetlana irina ekaterina anastasia yuki hiroshi kenji takashi akira haruto sakura yui "
    "hana keiko wei ming jing li xiu mei hui raj rahul amit sanjay vijay arjun priya anita deepa sunita ananya "
    "mohammed muhammad ahmed ali omar hassan hussein ibrahim yusuf khalid fatima aisha zainab layla mariam amina "
    "kwame kofi ama chidi ngozi tunde amara mehmet mustafa ayşe fatma emre elif georgios dimitris eleni "
    # More of the usual names of Europe, North America and Japan.
    "alice ruth virginia ann anne annie clara ella mia ava zoe chloe lucy ellie molly harriet daisy poppy phoebe "
    "imogen naomi leah crystal tracy stacy tina wendy robin dawn erica veronica vanessa valerie vivian yvonne irene "
    "ida edith roxanne caitlin erin shannon bridget fiona moira siobhan aoife niamh saoirse liam oliver harry oscar "
    "archie alfie theo freddie leo finley callum rory ewan angus hamish cormac declan conor seamus brendan luke isaac "
    "caleb owen wyatt connor evan gavin ian neil colin derek trevor nigel graham stuart malcolm clive darren clifford "
    "leonard norman stanley harvey marvin melvin leroy clarence ernest howard fred arnold marlene gisela elke renate "
    "brigitte gabriele susanne martina silke tanja nadine jutta inge lena leonie johanna friedrich heinrich ludwig "
    "otto dieter manfred gerhard rainer rolf volker holger torsten dirk markus florian sebastian tobias moritz simon "
    "fabian elias caroline claire hélène hugo mathieu maxime baptiste romain guillaume jérôme pascal didier gilles "
    "yves margaux juliette anaïs élodie aurélie virginie corinne véronique lorenzo matilde beatrice alessia federica "
    "silvia simona roberto stefano davide riccardo tommaso enrico manuel ramón rubén iván álvaro adrián joaquín emilio "
    "ignacio rocío raquel sonia yolanda lorena gonçalo tiago rui nuno vasco catarina mariana leonor fernanda juliana "
    "thiago gustavo rodrigo vinicius arne bjørn eirik espen geir håkon jorunn kjell lise marit nils odd øystein "
    "ragnhild sigrid silje sindre solveig stian terje tor tone trond unni vegard åse axel elsa ebba freja alva maja "
    "klara saga wilma oskar viktor ludvig filip isak hampus rikard ulf göran bengt bertil börje åke britt gunilla "
    "inger lotta anette jesper kasper lasse morten peder preben steen torben ulla bodil dorthe gitte hanne karen lone "
    "maren pernille rikke signe trine eino eero heikki ilkka jaakko jari jouko jouni juha juhani kalle kari lauri "
    "markku marko mikko olli pasi pentti petri risto sami seppo tapio timo toivo tuomas veikko ville anneli eija "
    "helena irja kaija kirsi leena liisa maija marjo marjatta merja minna päivi pirjo raija riitta ritva satu sirpa "
    "soile tarja tuula jón guðrún sigurður guðmundur gunnar ólafur kristín margrét sigríður helga einar magnús stefán "
    "jóhann björk tómas þór jakub jiří josef karel milan miroslav ondřej radek stanislav václav zdeněk alena dana "
    "eliška ivana jarmila jitka kateřina lucie markéta michaela šárka tereza vendula věra zdeňka zuzana ján jozef "
    "štefan marián ľubomír mária ágnes andrás attila balázs bence béla csaba dániel dávid erzsébet éva ferenc géza "
    "gergely györgy ildikó imre józsef judit júlia károly krisztina márton máté mihály mónika péter réka sándor "
    "szilvia tamás tibor viktória marek michał marcin grzegorz jerzy zbigniew ryszard kazimierz łukasz wojciech maciej "
    "rafał ewa joanna magdalena elżbieta jolanta aneta karolina luka jovan marija nikola dragan goran zoran milica "
    "jelena vesna snežana matej žiga nejc anže tjaša nina mojca urška aleksandr sergey andrey alexey dmitry yuri oleg "
    "igor konstantin maxim nikita kirill denis ludmila galina nadezhda lyubov oksana yulia daria polina ksenia asya "
    "yuto sota hinata riku haruki kaito minato takumi kenta daiki shota naoki hiroki kazuki makoto akiko yoko kazuko "
    "sachiko naoko tomoko yumi ayumi mayumi asuka misaki nanami "
)

_STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Parkway|Pkwy|"
    r"Circle|Cir|Highway|Hwy|Route|Trail|Crescent|Close|Row|Mews|Alley|Plaza|Loop|Path|Walk|Stravenue|Green|Grove|Hill)"
)
_GLUED = (
    r"[^\W\d_]{2,30}(?:stra(?:ß|ss)e|str\.|gasse|weg|platz|allee|vej|gade|gata|gatan|v[äa]gen|katu|tie|laan|straat|plein|"
    r"kade|stræde|vegen|utca|kuja|polku)"
)
_FIRST = (
    r"(?:rue|avenue|av\.|boulevard|place|chemin|quai|via|viale|piazza|corso|calle|c/|avenida|avda\.|paseo|plaza|rua|travessa|"
    r"praça|ul\.|ulica|al\.|Rue|Avenue|Boulevard|Place|Chemin|Via|Viale|Piazza|Corso|Calle|Avenida|Avda\.|Paseo|Plaza|Rua)"
)
_STREET_HINTS = _between_bars(
    "straße|strasse|str.|gasse|weg|platz|allee|vej|gade|gata|vägen|vagen|katu|tie |laan|straat|plein|kade|stræde|"
    "vegen|utca|kuja|polku|rue |avenue|av.|boulevard|place|chemin|quai|via |viale|piazza|corso|calle|c/|avenida|"
    "avda.|paseo|plaza|rua |travessa|praça|ul.|ulica|al."
)
_WORDS_OF_STREET = rf"(?:(?:{_WORD}|[a-z]{{2,3}})\.? ){{0,4}}"
_HOUSE = r"[0-9]{1,6}[A-Za-z]?(?:,? [0-9]{1,5})?,? "
_UNIT = r"(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.? ?[A-Z]?[0-9]{1,6}[A-Z]?"
_TOWN = (
    rf"(?:[\s,]+(?:{_WORD}|[A-Z]{{2}})){{1,6}}[\s,]+[A-Z0-9]{{0,4}}[0-9]{{3,6}}(?:-[0-9]{{3,4}})?"
    rf"|,[ \n]+{_WORD}(?:,? {_WORD}){{0,3}}"
)
_REST = rf"(?:[\s,]+{_UNIT}){{0,3}}(?:{_TOWN})?"
_PLACES = (
    re.compile(rf"{_HOUSE}{_WORDS_OF_STREET}{_STREET}\b\.?{_REST}"),
    re.compile(rf"{_HOUSE}(?:{_GLUED}|{_FIRST} {_WORD}(?: {_WORD}){{0,3}})(?: [0-9]{{1,4}}[a-zA-Z]?)?\b{_REST}"),
    re.compile(rf"{_HOUSE}{_WORD}(?: {_WORD}){{0,3}} [0-9]{{1,4}}[a-zA-Z]?(?:[\s,]+{_UNIT}){{1,3}}(?:{_TOWN})?"),
    re.compile(rf"{_HOUSE}{_WORD}(?: {_WORD}){{0,3}}(?:[\s,]+{_UNIT}){{1,3}}(?:{_TOWN})?"),
)
_STREET_FIRST = re.compile(
    rf"(?:\b{_GLUED}|\b{_FIRST} (?:(?:{_WORD}|[a-z]{{2,3}}) ){{0,3}}{_WORD}),? ?[0-9]{{1,4}}[a-zA-Z]?\b{_REST}"
)
_BOXES = re.compile(
    r"\b(?:Unit [0-9]{1,5} Box [0-9]{1,5}|P\.? ?O\.? Box [0-9]{1,6}|"
    r"PSC [0-9]{1,5},? Box [0-9]{1,5}|Postfach [0-9 ]{2,8})"
    r"(?:[\s,]+(?:[A-Z]PO [A-Z]{2} [0-9]{5}))?"
    rf"|\b(?:US(?:S|NS|NV|CGC) {_WORD}[\s,]+)?[AFD]PO,? A[AEP] [0-9]{{5}}\b"
    r"|\b(?:Apt|Apartment|Suite|Ste)\b\.? ?(?:[0-9]{2,6}[A-Z]?|[A-Z][0-9]{1,5})\b"
)
_BOX_HINTS = ("box", "postfach", "po a", "po, a", "apt ", "apt. ", "apartment ", "suite ", "ste ", "ste. ")
_APART = re.compile(
    rf"\b(?:[0-9]{{1,6}},? )?{_WORD}(?: {_WORD}){{0,2}} "
    r"(?:[Ss]tra(?:ß|ss)e|[Ss]tr\.|Weg|Gasse|Allee|Platz|Ufer|gate|gata|vei|"
    r"tee|puiestee|põik|utca|u\.|út|útja|tér|tere|krt\.|rkp\.|köz|katu|tie|ulica|cesta|laan|straat),? "
    rf"[0-9]{{1,4}}[a-zA-Z]?\b\.?{_REST}"
)
"""A street whose kind stands apart, after its name, with the number of the house behind."""
_APART_HINTS = _between_bars(
    " strasse| straße| str.| weg | gasse | allee | platz | ufer | gate | gata | vei | tee | puiestee | põik | utca |"
    " u. | út | útja | tér | tere | krt.| rkp.| köz | katu | tie | ulica | cesta | laan | straat "
)
_MOVED = re.compile(
    r"(?:address(?: of [^\n]{1,40})? (?:is|to)|address:|live[sd]? (?:at|on)|moved to|ship(?:ped)? to|deliver(?:ed)? to|"
    r"off at|residence:|residing at|located at|located on|is (?:at|on)|arrived at|meet (?:you|me|us) at|"
    r"address(?: with|\? it is))[^0-9\n]{0,20}\Z",
    re.IGNORECASE,
)
_AFTER_MOVED = re.compile(rf"{_HOUSE}?{_WORD}(?: {_WORD}){{0,4}}(?: [0-9]{{1,5}})?{_REST}")
_NUMBER = re.compile(r"(?<![\w.,-])[0-9]{1,6}[A-Za-z]?,? ")


def people(text: str) -> Iterator[Finding]:
    """Names of people, without their titles."""
    for match in _RUN.finditer(text):
        words = match[0].split(" ")
        start = match.start()
        score = CONTEXT if _is_introduced(text[max(0, start - 30) : start].lower().split()) else 0.0
        # What stands before the name in the same run: titles, and words that only begin a sentence.
        while words and (words[0].lower().rstrip(".") in _BEFORE or words[0].lower() in _NO_NAMES):
            score = CONTEXT if words[0].lower().rstrip(".") in _BEFORE else 0.0
            start += len(words.pop(0)) + 1
        while words and words[-1].lower() in _NO_NAMES:
            words.pop()
        if not words:
            continue
        given = next((place for place, word in enumerate(words) if word.lower() in _GIVEN), None)
        if score == 0.0 and given is None and _has_mark(text, words, start):
            score = CONTEXT
        elif score == 0.0 and given is not None:
            start += sum(len(word) + 1 for word in words[:given])
            words, score = words[given:], WORDS
        if score:
            yield Finding(type="PERSON", start=start, end=start + len(" ".join(words)), score=score)


def _has_mark(text: str, words: list[str], start: int) -> bool:
    """Whether the run itself or what follows says that it is a name: a middle initial, or what only people do."""
    run = " ".join(words)
    if ". " in run and _INITIAL.search(run):
        return words[0].lower() not in _LETTERED
    before = text[max(0, start - 8) : start].lower().split()
    return not (before and before[-1] in _ARTICLES) and _ACTS.match(text, start + len(run)) is not None


def _is_introduced(before: list[str]) -> bool:
    if not before or before[-1] in _LABELS:
        return bool(before)
    last = before[-1].strip(':,."(')
    return last in _TITLES or last in _INTRODUCED or " ".join([*before[-2:-1], last]) in _INTRODUCED


def places(text: str) -> Iterator[Finding]:
    """Postal addresses."""
    for match in _NUMBER.finditer(text):
        start = match.start()
        found = next((m for pattern in _PLACES if (m := pattern.match(text, start))), None)
        score = WORDS
        if found is None and _MOVED.search(text[max(0, start - 60) : start]):
            found, score = _AFTER_MOVED.match(text, start), CONTEXT
        if found is not None:
            yield Finding(type="ADDRESS", start=start, end=found.end(), score=score)
    lower = text.lower()
    for pattern, hints in ((_STREET_FIRST, _STREET_HINTS), (_APART, _APART_HINTS), (_BOXES, _BOX_HINTS)):
        for match in pattern.finditer(text) if any(hint in lower for hint in hints) else ():
            yield Finding(type="ADDRESS", start=match.start(), end=match.end(), score=WORDS)
