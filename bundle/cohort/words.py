"""Words of tables: names of columns, controls, sexes, and what stands for unknown, in five languages.

English words and codes follow ADNI, SchizConnect, OpenBHB, ABIDE, OASIS and BIDS; German, French, Spanish and Italian
ones what clinics write. All are compared in the form that `canonical` or `plain_name` gives them.
"""

from __future__ import annotations

import math
import re
import unicodedata

# Our name → names it goes by in tables, as `plain_name` gives them; earlier ones win.
ALIASES = {
    "participant_id": (
        *("participantid", "participant", "subjectid", "subject", "subid", "ptid"),
        *("probandenid", "probandid", "proband", "patientenid", "teilnehmer", "sujet", "sujeto", "participante"),
        *("partecipante", "soggetto"),
    ),
    "session_id": ("sessionid", "session", "ses", "sitzung", "seance", "sesion", "sessione"),
    "site": ("sitexacq", "site", "siteid", "center", "centre", "zentrum", "standort", "centro", "sede"),
    "age": (
        *("age", "ageyears", "ageinyears", "ageatscan", "alter", "alterjahre", "alterinjahren", "ageans", "ageannees"),
        *("edad", "edadanos", "eta", "etaanni"),
    ),
    "sex": ("sex", "gender", "ptgender", "geschlecht", "sexe", "genre", "sexo", "genero", "sesso", "genere"),
    "tiv": ("tiv", "tivml", "etiv"),
    "label": ("label", "diagnosis", "dx", "dxgroup", "diagnose", "diagnostic", "diagnostico", "diagnosi"),
    "image": (
        *("file", "image", "path", "scan", "filename", "datei", "dateiname", "bild", "pfad", "fichier", "chemin"),
        *("archivo", "fichero", "imagen", "ruta", "immagine", "percorso"),
    ),
}

CONTROL_WORDS = frozenset([
    # English
    *("control", "controls", "control group", "control subject", "ctl", "ctrl", "hc", "hcs", "cn", "nc", "nl", "td"),
    *("tdc", "normal", "normal control", "normal controls", "normals", "cognitively normal", "cognitively unimpaired"),
    *("healthy", "healthy control", "healthy controls", "healthycontrol", "healthycontrols", "healthy comparison"),
    *("healthy subject", "healthy subjects", "healthy participant", "healthy volunteer", "healthy volunteers", "hv"),
    *("typically developing", "typical developing", "typically developing control", "typically developing controls"),
    *("no known disorder", "no known disorders"),
    # German
    *("kontrolle", "kontrollen", "kontrollgruppe", "kontrollperson", "kontrollproband", "gesund", "gesunde"),
    *("gesunder", "gesunde kontrolle", "gesunde kontrollen", "gesunde kontrollgruppe", "gesunde kontrollperson"),
    *("gesunder proband", "gesunde probanden", "gesunde person"),
    # French
    *("controle", "controles", "temoin", "temoins", "sain", "sains", "saine", "saines", "temoin sain", "temoins sains"),
    *("controle sain", "controles sains", "sujet sain", "sujets sains", "volontaire sain", "volontaires sains"),
    # Spanish
    *("control sano", "control sana", "controles sanos", "sano", "sana", "sanos", "sanas", "sujeto sano"),
    *("sujetos sanos", "voluntario sano", "voluntarios sanos", "grupo control"),
    # Italian
    *("controllo", "controlli", "controllo sano", "controlli sani", "sani", "sane", "soggetto sano", "soggetti sani"),
    *("volontario sano", "volontari sani"),
])  # fmt: skip
# Neither a control nor a patient for certain.
UNCLEAR_WORDS = frozenset([
    *("none", "no", "yes", "nein", "ja", "non", "oui", "si", "no diagnosis", "keine diagnose", "keine", "aucun"),
    *("aucune", "ninguno", "ninguna", "nessuno", "nessuna", "negative", "positive", "negativ", "positiv", "true"),
    *("false", "other", "others", "sibling", "siblings", "relative", "relatives", "at risk", "unaffected"),
    *("unauffallig", "nd", "nr", "undetermined", "uncertain", "screen fail", "pilot", "test", "phantom"),
])  # fmt: skip
MISSING_WORDS = frozenset([
    *("", "n/a", "na", "n.a.", "n.a", "nan", "<na>", "null", "nil", ".", "..", "?", "??", "???", "/", "x/x"),
    *("#n/a", "#n/v", "#nv", "#null!", "#na", "unknown", "unk", "missing", "not available", "not applicable"),
    *("not known", "not reported", "not recorded", "undefined", "unspecified", "unbekannt", "fehlt", "fehlend", "k.a."),
    *("k. a.", "keine angabe", "nicht bekannt", "inconnu", "inconnue", "manquant", "manquante", "non disponible"),
    *("non renseigne", "desconocido", "desconocida", "no disponible", "sin datos", "s/d", "ignoto", "sconosciuto"),
    *("sconosciuta", "mancante", "n.d.", "n/d"),
])  # fmt: skip
EXCLUDED_WORDS = frozenset([
    *("excluded", "exclude", "exclusion", "withdrawn", "dropout", "drop out", "ausgeschlossen", "exclu", "exclue"),
    *("excluido", "excluida", "escluso", "esclusa"),
])  # fmt: skip
# ADNI writes -4 and -1, UK Biobank -3 and -1, ABIDE and SchizConnect -9999, many others the rest.
MISSING_CODES = frozenset(
    [-1, -2, -3, -4, -7, -8, -9, -77, -88, -99, -777, -888, -999, -9999, -99999, 999, 9999, 99999]
)

SEX_WORDS = {
    **dict.fromkeys(
        ("f", "female", "woman", "women", "girl", "w", "weiblich", "frau", "feminin", "femme", "fille"), "F"
    ),
    **dict.fromkeys(("mujer", "femenino", "femenina", "hembra", "femmina", "femminile", "donna"), "F"),
    **dict.fromkeys(("m", "male", "man", "men", "boy", "mannlich", "maennlich", "mann", "masculin", "homme"), "M"),
    **dict.fromkeys(("garcon", "h", "hombre", "masculino", "varon", "maschio", "maschile", "uomo"), "M"),
}
# BIDS writes O; what is neither female nor male is unknown to a model of two sexes.
OTHER_SEXES = frozenset([
    *("o", "other", "d", "divers", "diverse", "u", "x", "autre", "otro", "otra", "altro", "intersex", "nonbinary"),
    *("non binary", "andere", "anderes"),
])  # fmt: skip
UNIT_WORDS = {  # in the name of a column of ages
    "months": ("month", "months", "mo", "mos", "monat", "monate", "monaten", "mois", "mes", "meses", "mesi"),
    "weeks": (
        *("week", "weeks", "wk", "wks", "woche", "wochen", "semaine", "semaines", "semana", "semanas", "settimana"),
        "settimane",
    ),
    "days": ("day", "days", "tag", "tage", "tagen", "jour", "jours", "dia", "dias", "giorno", "giorni"),
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:[.,]0{1,18})?")


def without_accents(text: str) -> str:
    """Text without case and accents.

    Example:
        >>> without_accents("Männlich"), without_accents("TÉMOIN")
        ('mannlich', 'temoin')
    """
    parts = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(c for c in parts if not unicodedata.combining(c))


def plain_name(name: object) -> str:
    """Name of a column without case, accents and anything but letters and digits.

    Example:
        >>> plain_name("Age (years)"), plain_name("participant-ID")
        ('ageyears', 'participantid')
    """
    return "".join(c for c in without_accents(str(name)) if c.isalnum())


def canonical(text: object) -> str:
    """A word of a table in the one form in which words are compared; numbers lose zeros behind the point.

    Example:
        >>> canonical(" Healthy_Control "), canonical("2.0"), canonical("-4"), canonical("--")
        ('healthy control', '2', '-4', '')
    """
    word = without_accents(str(text))
    if _NUMBER.fullmatch(word):
        return str(int(re.split("[.,]", word)[0]))
    return " ".join(re.split(r"[\s_\-–—]+", word)).strip()


def unit_of(name: str) -> str:
    """The unit that the name of a column of ages speaks of, other than years; empty where it speaks of none.

    Example:
        >>> unit_of("AgeMonths"), unit_of("Alter (Tage)"), unit_of("age")
        ('months', 'days', '')
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = set(re.findall(r"[a-z]+", without_accents(apart)))
    return next((unit for unit, known in UNIT_WORDS.items() if words & set(known)), "")


def is_number(word: str) -> bool:
    """Whether a word, as `canonical` gives it, is a number, with a point or a comma before the decimals.

    Example:
        >>> is_number("0.5"), is_number("-1,5"), is_number("2"), is_number("ad")
        (True, True, True, False)
    """
    try:
        return not math.isnan(float(word.replace(",", ".")))
    except ValueError:
        return False


def is_missing(word: str) -> bool:
    """Whether a word, as `canonical` gives it, stands for a value that is not known."""
    return word in MISSING_WORDS


def is_missing_code(word: str) -> bool:
    """Whether a word, as `canonical` gives it, is a number by which data sets say that a value is not known."""
    return bool(re.fullmatch(r"-?[0-9]{1,6}", word)) and int(word) in MISSING_CODES
